//! ListSessionsRequest.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::client;
use crate::grpc::convert::lists::page_size;
use crate::grpc::convert::time::time;
use crate::grpc::pb;
use crate::model::device::DeviceType;
use crate::model::ids::{ClientId, TenantId, UserId};
use crate::model::session::{SessionFilter, StateFilter};

/// Checks a list request; returns tenant, filter and page size.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn filter(request: &pb::ListSessionsRequest) -> Result<(TenantId, SessionFilter, usize)> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let size = page_size(&mut check, request.page_size);
    let filter = session_filter(&mut check, request.filter.clone().unwrap_or_default());
    let Some(tenant) = tenant else { return Err(check.failed()) };
    check.done()?;
    Ok((tenant, filter, size))
}

/// Checks the filter in the field `filter` of a request.
pub(super) fn session_filter(check: &mut Check, pb: pb::SessionFilter) -> SessionFilter {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    SessionFilter {
        user: given(&pb.user_id)
            .and_then(|text| check.take("filter.user_id", UserId::parse(&text))),
        device: check.uuid("filter.device_id", &pb.device_id),
        client: given(&pb.client_id)
            .and_then(|text| check.take("filter.client_id", ClientId::parse(&text))),
        state: check.value("filter.state", pb.state, state),
        device_type: check.value("filter.device_type", pb.device_type, DeviceType::from_number),
        ip: given(&pb.ip_prefix).and_then(|text| check.take("filter.ip_prefix", network(&text))),
        created_after: time(check, "filter.created_after_time", pb.created_after_time),
        created_before: time(check, "filter.created_before_time", pb.created_before_time),
        last_active_after: time(check, "filter.last_active_after_time", pb.last_active_after_time),
        last_active_before: time(
            check,
            "filter.last_active_before_time",
            pb.last_active_before_time,
        ),
    }
}

fn state(number: i32) -> Option<StateFilter> {
    match pb::SessionState::try_from(number).ok()? {
        pb::SessionState::Unspecified => None,
        pb::SessionState::Active => Some(StateFilter::Active),
        pb::SessionState::Terminated => Some(StateFilter::Terminated),
        pb::SessionState::Expired => Some(StateFilter::Expired),
    }
}

/// Parses a network or one address, in the form in which addresses are stored.
pub fn network(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net.trunc(),
        Err(_) => client::ip(text)
            .map(IpNet::from)
            .map_err(|_| "must be an address or a network such as 192.0.2.0/24".to_owned())?,
    };
    Ok(match net {
        IpNet::V6(net) => mapped(net).map_or(IpNet::V6(net), IpNet::V4),
        v4 => v4,
    })
}

/// The IPv4 network that is mapped into this one (::ffff:0:0/96, RFC 4291, section 2.5.5.2).
fn mapped(net: Ipv6Net) -> Option<Ipv4Net> {
    let length = net.prefix_len().checked_sub(96)?;
    Ipv4Net::new(net.addr().to_ipv4_mapped()?, length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_the_form_of_stored_addresses() {
        let text = |t: &str| network(t).map(|net| net.to_string());
        assert_eq!(text("192.0.2.77/24"), Ok("192.0.2.0/24".to_owned()));
        assert_eq!(text("::ffff:192.0.2.0/120"), Ok("192.0.2.0/24".to_owned()));
        assert_eq!(text("192.0.2.1"), Ok("192.0.2.1/32".to_owned()));
        assert_eq!(text("2001:db8::/32"), Ok("2001:db8::/32".to_owned()));
        assert!(text("192.0.2.0/33").is_err());
        assert!(text("fe80::1%eth0").is_err());
    }
}
