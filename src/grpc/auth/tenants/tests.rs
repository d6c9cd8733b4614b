//! Tests that the tenant of every request that has one is resolved.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;

use super::*;
use crate::grpc::pb;
use crate::model::caller::principal::{Caller, Tenants};
use crate::model::ids::TenantId;

fn caller(tenants: &[&str]) -> Principal {
    let named = tenants.iter().map(|tenant| TenantId::parse(tenant).unwrap()).collect();
    Principal { tenants: Tenants::Named(named), ..Principal::clone(&Caller::anonymous()) }
}

/// The tenant field after `stated` is resolved, or the field or message of the error.
fn settled(caller: &Principal, stated: &str) -> Result<String, String> {
    let mut request = pb::GetSessionRequest { tenant_id: stated.to_owned(), ..Default::default() };
    match settle(caller, &mut request) {
        Ok(()) => Ok(request.tenant_id),
        Err(Error::Invalid(violations)) => Err(violations[0].field.clone()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn a_tenant_is_the_one_that_is_named_or_the_callers_own() {
    let foreign = Err("not permitted: the caller may not work for this tenant".to_owned());
    let ok = |text: &str| Ok(text.to_owned());
    let anybody = Caller::anonymous();
    assert_eq!(settled(&anybody, ""), ok(""), "the default one");
    assert_eq!(settled(&anybody, "b"), ok("b"));
    assert_eq!(settled(&anybody, "a b"), ok("a b"), "its form is for others to judge");
    let one = caller(&["a"]);
    assert_eq!(settled(&one, ""), ok("a"));
    assert_eq!(settled(&one, "a"), ok("a"));
    for other in ["b", "default", "A", "a ", "a b", "*"] {
        assert_eq!(settled(&one, other), foreign, "{other}");
    }
    let several = caller(&["a", "default"]);
    assert_eq!(settled(&several, ""), ok(""));
    assert_eq!(settled(&several, "default"), ok("default"));
    let others = caller(&["a", "b"]);
    assert_eq!(settled(&others, ""), Err("tenant_id".to_owned()));
    assert_eq!(settled(&others, "b"), ok("b"));
    let none = caller(&[]);
    assert_eq!(settled(&none, ""), Err("tenant_id".to_owned()));
    assert_eq!(settled(&none, "default"), foreign);
}

#[test]
fn a_policy_names_its_tenant_itself_and_a_token_does_too() {
    let others = caller(&["a", "b"]);
    let mut update = pb::UpdatePolicyRequest::default();
    assert!(settle(&others, &mut update).is_ok(), "what is missing is for others to say");
    update.policy = Some(pb::Policy::default());
    let Err(Error::Invalid(violations)) = settle(&others, &mut update) else { panic!("passed") };
    assert_eq!(violations[0].field, "policy.tenant_id");
    let target = Some(Target::AccessToken("x".to_owned()));
    let mut logout = pb::TerminateSessionRequest { target, ..Default::default() };
    settle(&others, &mut logout).unwrap();
    assert_eq!(logout.tenant_id, "a");
}

/// The source text of the list.
const LISTED: &str = include_str!("../tenants.rs");

#[test]
fn every_request_with_a_tenant_is_listed() {
    let set = FileDescriptorSet::decode(pb::DESCRIPTOR).unwrap();
    let messages = || {
        set.file.iter().flat_map(|file| {
            file.message_type
                .iter()
                .map(move |message| (format!(".{}.{}", file.package(), message.name()), message))
        })
    };
    let inputs: BTreeSet<String> = set
        .file
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method)
        .map(|method| method.input_type().to_owned())
        .collect();
    let mut found = 0;
    for input in &inputs {
        // All messages that the request can contain.
        let (mut inside, mut next) = (BTreeSet::new(), vec![input.clone()]);
        while let Some(name) = next.pop() {
            if !inside.insert(name.clone()) {
                continue;
            }
            for (_, message) in messages().filter(|(own, _)| *own == name) {
                let fields = message.field.iter().filter(|f| f.r#type() == Type::Message);
                next.extend(fields.map(|field| field.type_name().to_owned()));
            }
        }
        let names_a_tenant = messages().any(|(name, message)| {
            inside.contains(&name) && message.field.iter().any(|f| f.name() == "tenant_id")
        });
        let (_, name) = input[1..].split_once(".v1.").unwrap();
        let listed = format!("pb::{name}");
        let is_listed = LISTED.contains(&format!("    {listed},\n"))
            || LISTED.contains(&format!("    {listed}: "))
            || LISTED.contains(&format!("impl Tenanted for {listed} "));
        assert_eq!(is_listed, names_a_tenant, "{input}");
        found += usize::from(names_a_tenant);
    }
    assert!(found > 25, "{found} requests have a tenant");
}
