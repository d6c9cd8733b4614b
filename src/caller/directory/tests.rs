//! The principal that credentials resolve to.

use chrono::{DateTime, Duration};

use super::*;
use crate::caller::key::generate;
use crate::error::Reason;

fn now() -> Time {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn principal(name: &str) -> StoredPrincipal {
    StoredPrincipal {
        name: name.to_owned(),
        roles: vec!["gateway".to_owned(), "of a later release".to_owned()],
        scopes: vec!["session.terminate".to_owned(), "later.too".to_owned()],
        tenants: vec!["a".to_owned()],
        audiences: Vec::new(),
        accepts_certificates: true,
        created_at: now(),
        updated_at: now(),
    }
}

/// A directory of two principals, the first with a key that lasts for an hour; and that key.
fn directory() -> (Directory, PresentedKey) {
    let (key, _) = generate().unwrap();
    let until = now() + Duration::hours(1);
    let stored = (key.id.as_str().to_owned(), key.hash.bytes().to_vec(), until);
    let known = vec![
        PrincipalWithKey { principal: principal("edge"), key: Some(stored) },
        PrincipalWithKey { principal: principal("other"), key: None },
    ];
    (Directory::of(known, &Accounts::new(0)), key)
}

fn credentials(identity: Identity, key: Option<PresentedKey>) -> Credentials {
    let connection = CallerConnection::new("192.0.2.1:1".parse().unwrap(), Arc::default());
    connection.identify(identity);
    Credentials { connection: Arc::new(connection), key }
}

fn named(name: &str) -> Identity {
    Identity::Certificate(name.to_owned())
}

/// The name of the caller, or the error.
fn of(identity: Identity, with_key: bool, now: Time) -> Result<String, String> {
    let (directory, key) = directory();
    let credentials = credentials(identity, with_key.then_some(key));
    let caller = directory.caller(&credentials, now);
    caller.map(|known| known.caller.name.clone()).map_err(|error| error.to_string())
}

#[test]
fn a_certificate_and_a_key_must_name_the_same_principal() {
    let unknown = Err("unknown caller".to_owned());
    let edge = Ok("edge".to_owned());
    assert_eq!(of(Identity::Unknown, true, now()), edge);
    assert_eq!(of(named("edge"), false, now()), edge);
    assert_eq!(of(named("edge"), true, now()), edge);
    assert_eq!(of(named("other"), false, now()), Ok("other".to_owned()));
    assert_eq!(of(named("other"), true, now()), unknown);
    assert_eq!(of(named("nobody"), false, now()), unknown);
    assert_eq!(of(named("nobody"), true, now()), unknown);
    for with_key in [false, true] {
        assert_eq!(of(Identity::Nameless("two URIs".to_owned()), with_key, now()), unknown);
    }
    assert_eq!(of(Identity::Unknown, false, now()), unknown);
}

#[test]
fn a_certificate_proves_nothing_where_it_was_not_granted() {
    let (key, _) = generate().unwrap();
    let stored =
        (key.id.as_str().to_owned(), key.hash.bytes().to_vec(), now() + Duration::hours(1));
    let edge = StoredPrincipal { accepts_certificates: false, ..principal("edge") };
    let directory = Directory::of(
        vec![PrincipalWithKey { principal: edge, key: Some(stored) }],
        &Accounts::new(0),
    );
    let proves = |identity, key| directory.caller(&credentials(identity, key), now()).is_ok();
    assert!(!proves(named("edge"), None));
    assert!(proves(named("edge"), Some(key)));
    assert!(proves(Identity::Unknown, Some(key)));
    assert!(!proves(named("other"), Some(key)));
}

#[test]
fn a_key_lasts_until_its_expiry_and_a_certificate_does_not_stand_in_for_it() {
    let last = now() + Duration::hours(1);
    let shortly_before = last - Duration::microseconds(1);
    assert!(of(Identity::Unknown, true, shortly_before).is_ok());
    assert!(of(Identity::Unknown, true, last).is_err());
    assert!(of(named("edge"), true, last).is_err());
    assert!(of(named("edge"), false, last).is_ok());
}

#[test]
fn a_right_id_with_a_wrong_secret_and_a_wrong_id_are_both_unknown() {
    let (directory, known) = directory();
    let (other, _) = generate().unwrap();
    for key in [PresentedKey { hash: other.hash, ..known }, PresentedKey { id: other.id, ..known }]
    {
        let shown = credentials(Identity::Unknown, Some(key));
        assert!(matches!(directory.caller(&shown, now()), Err(Error::UnknownCaller)));
    }
}

#[test]
fn names_of_another_release_grant_nothing_and_take_nothing() {
    let (directory, key) = directory();
    let shown = credentials(Identity::Unknown, Some(key));
    let known = directory.caller(&shown, now()).unwrap();
    let caller = &known.caller;
    let with = Scopes::of(&[Scope::SessionTerminate]);
    assert_eq!(caller.scopes, Role::Gateway.scopes().with(with));
    let refused = caller.check_scope(Scope::SessionCreate).unwrap_err();
    let Error::NotPermitted { reason, metadata, .. } = refused else { panic!("{refused}") };
    assert_eq!(reason, Reason::CallerNotPermitted);
    assert_eq!(metadata, [("scope", "session.create".to_owned())]);
}

#[test]
fn a_principal_without_a_sound_tenant_may_work_for_none() {
    for tenants in [&[][..], &[""], &["a b"]] {
        let tenants = tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
        let stored = StoredPrincipal { tenants, ..principal("edge") };
        assert_eq!(understood(stored).tenants, Tenants::Named(Vec::new()));
    }
    let all = StoredPrincipal { tenants: vec![ALL_TENANTS.to_owned()], ..principal("edge") };
    assert_eq!(understood(all).tenants, Tenants::All);
}
