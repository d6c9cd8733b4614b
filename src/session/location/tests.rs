//! Tests on MaxMind's test databases.

use std::path::Path;

use super::*;

fn file(name: &str) -> Option<PathBuf> {
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/geoip").join(name))
}

fn both() -> Locator {
    Locator::open(file("GeoIP2-City-Test.mmdb"), file("GeoLite2-ASN-Test.mmdb")).unwrap()
}

fn at(locator: &Locator, ip: &str) -> Option<Location> {
    locator.locate(ip.parse().unwrap())
}

#[test]
fn an_address_has_what_the_files_know_of_it() {
    let linkoping = Location {
        country_code: Some("SE".to_owned()),
        region: Some("Östergötland County".to_owned()),
        city: Some("Linköping".to_owned()),
        coordinates: Some((58.4167, 15.6167)),
        accuracy_km: Some(76),
        asn: Some(29518),
    };
    assert_eq!(at(&both(), "89.160.20.128"), Some(linkoping));
    let only_network = Location { asn: Some(1221), ..Location::default() };
    assert_eq!(at(&both(), "1.128.0.1"), Some(only_network));
    let country = at(&both(), "2001:220::1").unwrap();
    assert_eq!((country.country_code.as_deref(), country.city), (Some("KR"), None));
    assert_eq!((country.coordinates, country.accuracy_km), (None, None), "the middle of a country");
}

#[test]
fn an_unknown_or_private_address_has_no_place() {
    for ip in ["10.0.0.1", "127.0.0.1", "192.168.7.7", "::1", "fe80::1", "203.0.113.9", "0.0.0.0"] {
        assert_eq!(at(&both(), ip), None, "{ip}");
    }
    // For this address the file has the continent alone.
    assert_eq!(at(&both(), "2.3.3.1"), None);
    assert_eq!(at(&Locator::default(), "89.160.20.128"), None);
}

#[test]
fn a_file_that_is_missing_damaged_or_of_another_kind_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(file("GeoIP2-City-Test.mmdb").unwrap()).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        Some(dir.path().join(name))
    };
    let mut flipped = whole.clone();
    for byte in &mut flipped[4000..9000] {
        *byte ^= 0xff;
    }
    for (given, words) in [
        (Some(dir.path().join("none.mmdb")), "cannot be read"),
        (Some(dir.path().to_owned()), "is no file"),
        (write("empty.mmdb", b""), "is no sound file"),
        (write("text.mmdb", b"<html>404</html>"), "is no sound file"),
        (write("short.mmdb", &whole[..whole.len() / 2]), "is no sound file"),
        (write("end.mmdb", &whole[whole.len() / 2..]), "is no sound file"),
        (write("flipped.mmdb", &flipped), "is no sound file"),
        (file("GeoLite2-ASN-Test.mmdb"), "\"GeoLite2-ASN\", not of City or Country"),
    ] {
        let name = given.clone().unwrap().display().to_string();
        let error = format!("{:#}", Locator::open(given, None).err().unwrap());
        let starts = format!("--geoip-database {name}: ");
        assert!(error.starts_with(&starts) && error.contains(words), "{error}");
    }
    let huge = dir.path().join("huge.mmdb");
    std::fs::File::create(&huge).unwrap().set_len((1 << 30) + 1).unwrap();
    let error = format!("{:#}", Locator::open(None, Some(huge)).err().unwrap());
    assert!(error.contains("--geoip-asn-database") && error.contains("1 GiB"), "{error}");
}

#[test]
fn a_changed_file_is_read_again_and_a_damaged_one_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (place, next) = (dir.path().join("city.mmdb"), dir.path().join("next"));
    let whole = std::fs::read(file("GeoIP2-City-Test.mmdb").unwrap()).unwrap();
    // The same file, but for the name of a city.
    let mut renamed = whole.clone();
    for at in 0..renamed.len() {
        if renamed[at..].starts_with("Linköping".as_bytes()) {
            renamed[at] = b'W';
        }
    }
    std::fs::write(&place, &whole).unwrap();
    let locator = Locator::open(Some(place.clone()), None).unwrap();
    let city = || at(&locator, "89.160.20.128").and_then(|place| place.city);
    let replace = |bytes: &[u8]| {
        std::fs::write(&next, bytes).unwrap();
        std::fs::rename(&next, &place).unwrap();
        locator.reload();
    };
    replace(&whole[..whole.len() - 5]);
    assert_eq!(city().as_deref(), Some("Linköping"));
    replace(&renamed);
    assert_eq!(city().as_deref(), Some("Winköping"));
    std::fs::remove_file(&place).unwrap();
    locator.reload();
    assert_eq!(city().as_deref(), Some("Winköping"));
    replace(&whole);
    assert_eq!(city().as_deref(), Some("Linköping"));
}
