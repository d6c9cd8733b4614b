//! A session goes on from a new network and with another browser or system: its token may be in other hands.

use super::{finding, is_end, is_presence};
use crate::detection::memory::{UserMemory, around, is_stale, network, of_session};
use crate::detection::{Context, Finding};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::rule::Rule;
use crate::model::evidence::{SeenClient, TypedEvidence};

/// Compares the network and the client of a session with those of its last use. Both must differ,
/// because people change networks, and browsers are updated. A re-authentication proves the user's
/// identity.
pub fn look(activity: &Activity, context: &Context, user: &mut UserMemory) -> Option<Finding> {
    let session = activity.session?;
    if is_end(activity) {
        user.clients.remove(&session);
    }
    if !is_presence(activity) {
        return None;
    }
    let before = user.clients.get(&session).cloned();
    let after = seen(activity, context, before.as_ref())?;
    let proven = matches!(activity.kind, ActivityKind::Created | ActivityKind::Reauthenticated);
    let is_other = |before: &SeenClient| is_elsewhere(before, &after) && is_other(before, &after);
    let found = before.as_ref().filter(|before| !proven && is_other(before)).map(|before| {
        let text = format!(
            "The session was used with {} from {}, and then with {} from {}.",
            name(before),
            before.ip,
            name(&after),
            after.ip
        );
        let values = [
            ("old_ip_address", before.ip.to_string()),
            ("old_client", name(before)),
            ("new_ip_address", after.ip.to_string()),
            ("new_client", name(&after)),
        ];
        let (before, after) = (before.clone(), after.clone());
        let evidence = TypedEvidence::SessionHijack { before, after };
        Finding {
            dedup_key: format!("session_hijack:{session}"),
            ..finding(activity, Rule::SessionHijack, text, evidence, &values)
        }
    });
    let same = |before: &SeenClient| SeenClient { at: after.at, ..before.clone() } == after;
    if !before.is_some_and(|before| same(&before) && !is_stale(before.at, after.at)) {
        of_session(&mut user.clients, session, after, |seen| seen.at);
    }
    found
}

/// The network and client of this use. An unknown value stays as before; without an address nothing is known.
fn seen(activity: &Activity, context: &Context, before: Option<&SeenClient>) -> Option<SeenClient> {
    let ip = activity.ip.or(before.map(|before| before.ip))?;
    let asn = activity.location.as_ref().and_then(|place| place.asn);
    let kept = before.filter(|before| before.ip == ip).and_then(|before| before.asn);
    let known = |now: &Option<String>, then: fn(&SeenClient) -> &Option<String>| {
        now.clone().or_else(|| before.and_then(|before| then(before).clone()))
    };
    Some(SeenClient {
        at: activity.occurred_at,
        ip,
        asn: asn.or(kept),
        browser: known(&context.browser, |client| &client.browser),
        system: known(&context.system, |client| &client.system),
    })
}

/// By the autonomous system where both are known; else by the IPv4 /24 or the IPv6 /48, which is what a site gets
/// (RFC 6177). A host that has IPv4 and IPv6 uses both, so these cannot be compared.
/// One address is one network, also where a new file says that it is of another system.
fn is_elsewhere(before: &SeenClient, after: &SeenClient) -> bool {
    if network(before.ip) == network(after.ip) {
        return false;
    }
    match (before.asn, after.asn) {
        (Some(before), Some(after)) => before != after,
        _ => {
            before.ip.is_ipv4() == after.ip.is_ipv4()
                && around(before.ip, 24, 48) != around(after.ip, 24, 48)
        }
    }
}

/// Another browser or system; versions are no part of either, and unknown is not another.
fn is_other(before: &SeenClient, after: &SeenClient) -> bool {
    let differ = |one: &Option<String>, other: &Option<String>| {
        one.is_some() && other.is_some() && one != other
    };
    differ(&before.browser, &after.browser) || differ(&before.system, &after.system)
}

fn name(client: &SeenClient) -> String {
    let known = |name: &Option<String>| name.clone().unwrap_or_else(|| "unknown".to_owned());
    format!("{} on {}", known(&client.browser), known(&client.system))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::detection::samples::{activity, at, from, placed};

    const FIREFOX: (&str, &str) = ("Firefox", "Linux");
    const CURL: (&str, &str) = ("curl", "");

    struct World(UserMemory, f64);

    impl World {
        /// A session that Firefox began at 192.0.2.1.
        fn begun() -> World {
            let mut world = World(UserMemory::default(), 0.0);
            assert!(world.sees(ActivityKind::Created, "192.0.2.1", FIREFOX).is_none());
            world
        }

        fn sees(&mut self, kind: ActivityKind, ip: &str, with: (&str, &str)) -> Option<Finding> {
            self.of(from(activity(kind, at(self.1)), ip), with)
        }

        fn of(
            &mut self,
            mut activity: Activity,
            (browser, system): (&str, &str),
        ) -> Option<Finding> {
            self.1 += 1.0;
            activity.session = Some(Uuid::from_u128(1));
            let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let context =
                Context { browser: text(browser), system: text(system), ..Context::default() };
            look(&activity, &context, &mut self.0)
        }
    }

    #[test]
    fn it_takes_a_new_network_and_another_client() {
        for kind in
            [ActivityKind::Refreshed, ActivityKind::ContextChanged, ActivityKind::ApiRequest]
        {
            let mut world = World::begun();
            assert!(world.sees(kind, "198.51.100.7", FIREFOX).is_none(), "the network alone");
            assert!(world.sees(kind, "198.51.100.8", CURL).is_none(), "the client alone");
            let found = world.sees(kind, "192.0.2.1", FIREFOX).expect("both");
            assert_eq!(found.evidence.values["old_client"], "curl on Linux");
            assert_eq!(found.dedup_key, format!("session_hijack:{}", Uuid::from_u128(1)));
        }
    }

    #[test]
    fn an_authentication_settles_it_and_so_does_the_end() {
        let mut world = World::begun();
        assert!(world.sees(ActivityKind::Reauthenticated, "198.51.100.7", CURL).is_none());
        world.sees(ActivityKind::Terminated, "198.51.100.7", CURL);
        assert!(world.0.clients.is_empty());
    }

    #[test]
    fn networks_are_compared_by_system_else_by_prefix_and_families_not_at_all() {
        let asn = |ip: &str, asn: u32| {
            let mut activity = placed(activity(ActivityKind::Refreshed, at(9.0)), "DE", None);
            activity.location.as_mut().expect("a place").asn = Some(asn);
            from(activity, ip)
        };
        let mut world = World::begun();
        world.of(asn("192.0.2.1", 64500), FIREFOX);
        assert!(world.of(asn("198.51.100.7", 64500), CURL).is_none(), "one provider");
        assert!(world.of(asn("198.51.100.8", 64501), FIREFOX).is_some(), "next door, but another");
        assert!(world.of(asn("198.51.100.8", 64502), CURL).is_none(), "a new file of systems");
        let mut world = World::begun();
        assert!(world.sees(ActivityKind::Refreshed, "192.0.2.200", CURL).is_none(), "one /24");
        let mut world = World::begun();
        assert!(world.sees(ActivityKind::Refreshed, "2001:db8::1", CURL).is_none(), "IPv6");
    }

    #[test]
    fn what_is_not_told_is_no_change() {
        let mut world = World::begun();
        assert!(world.sees(ActivityKind::Refreshed, "198.51.100.7", ("", "")).is_none());
        let bare = activity(ActivityKind::ApiRequest, at(5.0));
        assert!(world.of(bare, CURL).is_none(), "no address");
    }
}
