//! Derives the device id of a session: the id that the caller names, else one from the fingerprint,
//! else one from the device's properties. Pure: a create needs no read for it.

use aws_lc_rs::digest::{SHA256, digest};
use uuid::Uuid;

use crate::model::device::{ClientContext, DeviceIdentity, DeviceType};
use crate::model::ids::{TenantId, UserId};
use crate::session::device::DerivedDevice;

/// The device id. Stable for one user on one device; it does not link two users of one device.
pub fn device_id(
    tenant: &TenantId,
    user: &UserId,
    context: &ClientContext,
    derived: Option<&DerivedDevice>,
) -> Uuid {
    let key = match &context.identity {
        DeviceIdentity::Id(id) => return *id,
        DeviceIdentity::Fingerprint(text) => text.clone(),
        DeviceIdentity::Unknown => coarse_key(context, derived),
    };
    // No tenant, user or fingerprint contains the separator, because control characters are
    // refused. A coarse key contains it, so it never equals a fingerprint.
    let hash = digest(&SHA256, format!("{tenant}\0{user}\0{key}").as_bytes());
    Uuid::new_v8(hash.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"))
}

/// The families of system and browser or app, and the type. The address and versions are not part
/// of it, so an update or a journey makes no new device. If nothing is known, all sessions of the
/// user share one device.
fn coarse_key(context: &ClientContext, derived: Option<&DerivedDevice>) -> String {
    let platform = context.device.platform.as_deref().and_then(family);
    let system = platform.or_else(|| derived?.os_family.clone()).unwrap_or_default();
    let browser = derived.and_then(|derived| derived.browser_family.as_deref()).unwrap_or_default();
    let kind = match (context.device_type, derived) {
        (DeviceType::Unspecified, Some(derived)) => derived.kind,
        (stated, _) => stated,
    };
    let number = kind as i16;
    format!("coarse\0{}\0{}\0{number}", system.to_lowercase(), browser.to_lowercase())
}

/// `iOS` of `iOS 18.1`: the words before the first number.
fn family(platform: &str) -> Option<String> {
    let words = platform.split(|c: char| c.is_whitespace() || c == '/');
    let named = words.take_while(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    let name = named.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::DeviceDetails;
    use crate::session::device::derive;

    fn context() -> ClientContext {
        ClientContext {
            ip: None,
            user_agent: None,
            location: None,
            identity: DeviceIdentity::Unknown,
            device_type: DeviceType::Unspecified,
            device: DeviceDetails::default(),
        }
    }

    fn on(platform: &str) -> ClientContext {
        let platform = Some(platform.to_owned());
        ClientContext { device: DeviceDetails { platform, ..Default::default() }, ..context() }
    }

    fn id_of(user: &str, context: &ClientContext, user_agent: &str) -> Uuid {
        let tenant = TenantId::parse("").expect("the default");
        let user = UserId::parse(user).expect("a user");
        let derived = Some(user_agent).filter(|text| !text.is_empty()).map(derive);
        device_id(&tenant, &user, context, derived.as_ref())
    }

    fn id(context: &ClientContext, user_agent: &str) -> Uuid {
        id_of("ada", context, user_agent)
    }

    fn chrome(os: &str, version: u32) -> String {
        format!(
            "Mozilla/5.0 ({os}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 \
             Safari/537.36"
        )
    }

    fn safari(version: &str) -> String {
        let os = version.replace('.', "_");
        format!(
            "Mozilla/5.0 (iPhone; CPU iPhone OS {os} like Mac OS X) AppleWebKit/605.1.15 (KHTML, \
             like Gecko) Version/{version} Mobile/15E148 Safari/604.1"
        )
    }

    #[test]
    fn an_update_of_browser_or_system_is_the_same_device() {
        let windows = "Windows NT 10.0; Win64; x64";
        assert_eq!(id(&context(), &chrome(windows, 130)), id(&context(), &chrome(windows, 131)));
        assert_eq!(id(&context(), &safari("17.4")), id(&context(), &safari("18.1")));
        for (old, new) in [
            ("iOS 17", "iOS 18.1"),
            ("macOS 15.2 (24C101)", "macOS 26"),
            ("Android/14", "android 15"),
            ("Ubuntu 22.04 LTS", "Ubuntu 24.04.1 LTS"),
        ] {
            assert_eq!(id(&on(old), ""), id(&on(new), ""), "{old} and {new}");
        }
        assert_eq!(id(&on("iOS 18.1"), &safari("18.1")), id(&context(), &safari("18.1")));
    }

    #[test]
    fn another_system_browser_type_or_user_is_another_device() {
        let windows = chrome("Windows NT 10.0; Win64; x64", 131);
        let tablet = ClientContext { device_type: DeviceType::Tablet, ..context() };
        let ids = [
            id(&context(), &windows),
            id(&context(), &chrome("X11; Linux x86_64", 131)),
            id(&context(), &windows.replace("Safari/537.36", "Safari/537.36 Edg/131.0.0.0")),
            id(&tablet, &windows),
            id(&on("ReactOS"), &windows),
            id_of("bob", &context(), &windows),
            id(&context(), ""),
            id_of("bob", &context(), ""),
        ];
        for (at, one) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(one), "the id at {at} is that of another");
        }
    }

    #[test]
    fn the_address_says_nothing() {
        let ip = Some([192, 0, 2, 1].into());
        assert_eq!(id(&ClientContext { ip, ..context() }, ""), id(&context(), ""));
    }

    #[test]
    fn an_id_wins_and_a_fingerprint_comes_second() {
        let known = |identity| ClientContext { identity, ..on("iOS 18.1") };
        let named = Uuid::from_u128(7);
        assert_eq!(id(&known(DeviceIdentity::Id(named)), &safari("18.1")), named);
        let print = |text: &str| known(DeviceIdentity::Fingerprint(text.to_owned()));
        assert_eq!(id(&print("a"), &safari("18.1")), id(&print("a"), ""));
        assert_ne!(id(&print("a"), ""), id(&print("b"), ""));
        assert_ne!(id(&print("a"), ""), id_of("bob", &print("a"), ""));
    }

    #[test]
    fn nothing_known_is_one_device() {
        assert_eq!(id(&context(), ""), id(&context(), "///"));
        assert_eq!(id(&context(), ""), id(&on("18.1"), ""));
    }
}
