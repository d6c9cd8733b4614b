//! The identity that a client certificate names. The TLS handshake has already verified the certificate.

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::clock::Time;
use crate::model::caller::Identity;

/// The longest name of a principal, in bytes.
const LONGEST: usize = 256;

/// The name in `certificate`: its only URI, or, without any URI, its only DNS name in lower case. The common name of
/// the subject is ignored.
pub fn identify(certificate: &CertificateDer<'_>) -> Identity {
    match name(certificate) {
        Ok(name) => Identity::Certificate(name),
        Err(why) => Identity::Nameless(why),
    }
}

/// The expiry time of `certificate`; `None` if it cannot be parsed.
pub fn valid_until(certificate: &CertificateDer<'_>) -> Option<Time> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let end = parsed.tbs_certificate.validity.not_after.to_unix_duration();
    Time::from_timestamp(i64::try_from(end.as_secs()).ok()?, 0)
}

fn name(certificate: &CertificateDer<'_>) -> Result<String, String> {
    let unreadable = |_| "its names cannot be read".to_owned();
    let parsed = Certificate::from_der(certificate).map_err(unreadable)?;
    let names = parsed.tbs_certificate.get::<SubjectAltName>().map_err(unreadable)?;
    let names = names.map(|(_, SubjectAltName(names))| names).unwrap_or_default();
    let uris: Vec<&str> = names.iter().filter_map(uri).collect();
    let hosts: Vec<String> = names.iter().filter_map(host).collect();
    match (uris.len(), hosts.len()) {
        // The colon keeps URIs and host names distinct.
        (1, _) => {
            sound(uris.first().copied().unwrap_or_default().to_owned(), |uri| uri.contains(':'))
        }
        (0, 1) => sound(hosts.first().cloned().unwrap_or_default(), |host| {
            !host.contains(['*', ':', '/'])
        }),
        (0, 0) => Err("it has neither a URI nor a DNS name among its alternative names".to_owned()),
        (0, many) => Err(format!("it has {many} DNS names and no URI: which is it?")),
        (many, _) => Err(format!("it has {many} URIs: which is it?")),
    }
}

fn uri(name: &GeneralName) -> Option<&str> {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
        _ => None,
    }
}

fn host(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(host) => Some(host.as_str().to_ascii_lowercase()),
        _ => None,
    }
}

fn sound(name: String, fits: impl Fn(&str) -> bool) -> Result<String, String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_graphic());
    if (1..=LONGEST).contains(&name.len()) && plain && fits(&name) {
        Ok(name)
    } else {
        Err("its name is not one of 1 to 256 visible characters, without wildcards".to_owned())
    }
}
