//! The table of permissions by request path, checked against the methods that are served.

use std::collections::HashMap;

use anyhow::ensure;

use crate::caller::permissions::{METHODS, Permission};
use crate::grpc::meters::names;
use crate::grpc::pb;

/// The permission that each method needs, by its exact path.
pub struct Table(HashMap<String, Permission>);

/// The descriptors of all services that can be served.
pub const DESCRIPTORS: [&[u8]; 4] = [
    pb::DESCRIPTOR,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

impl Table {
    /// Builds the table from [`METHODS`].
    ///
    /// # Errors
    /// If a method has no row or two rows, or a row names a method that is not served.
    pub fn new() -> anyhow::Result<Table> {
        Table::of(METHODS, &DESCRIPTORS.into_iter().flat_map(names).collect::<Vec<_>>())
    }

    fn of(rows: &[(&str, Permission)], served: &[String]) -> anyhow::Result<Table> {
        let mut table = HashMap::new();
        for (method, need) in rows {
            ensure!(
                served.iter().any(|name| name == method),
                "the table of permissions names {method}, which is not served"
            );
            let before = table.insert(format!("/{method}"), *need);
            ensure!(before.is_none(), "the table of permissions names {method} twice");
        }
        for method in served {
            ensure!(
                table.contains_key(&format!("/{method}")),
                "the table of permissions lacks {method}"
            );
        }
        Ok(Table(table))
    }

    /// The permission that a call to `path` needs; `None` if there is no such method.
    pub fn need(&self, path: &str) -> Option<Permission> {
        self.0.get(path).copied()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_has_one_row_and_every_row_a_method() {
        let table = Table::new().unwrap();
        assert_eq!(table.0.len(), METHODS.len());
        let served = vec!["a.B/C".to_owned(), "a.B/D".to_owned()];
        let row = |method| (method, Permission::Nothing);
        assert!(Table::of(&[row("a.B/C"), row("a.B/D")], &served).is_ok());
        for (rows, said) in [
            (&[row("a.B/C")][..], "lacks a.B/D"),
            (&[row("a.B/C"), row("a.B/C"), row("a.B/D")], "a.B/C twice"),
            (&[row("a.B/C"), row("a.B/D"), row("a.B/E")], "a.B/E, which is not served"),
        ] {
            let error = Table::of(rows, &served).err().unwrap().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn only_the_exact_path_is_a_method() {
        let table = Table::new().unwrap();
        let path = "/sessiond.v1.SessionService/GetSession";
        assert!(table.need(path).is_some());
        for odd in [
            "",
            "/",
            "sessiond.v1.SessionService/GetSession",
            "//sessiond.v1.SessionService/GetSession",
            "/sessiond.v1.SessionService/GetSession/",
            "/sessiond.v1.SessionService/getSession",
            "/sessiond.v1.SessionService//GetSession",
            "/sessiond.v1.SessionService/GetSession%20",
            "/sessiond.v1.SessionService/%47etSession",
            "/sessiond.v1.SessionService",
            "/x/../sessiond.v1.SessionService/GetSession",
        ] {
            assert_eq!(table.need(odd), None, "{odd}");
        }
    }

    #[test]
    fn every_method_documents_its_scope() {
        let set = FileDescriptorSet::decode(pb::DESCRIPTOR).unwrap();
        let mut said = 0;
        for file in &set.file {
            for (at, service) in file.service.iter().enumerate() {
                for (number, method) in service.method.iter().enumerate() {
                    let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    let (_, need) = METHODS.iter().find(|(row, _)| *row == name).unwrap();
                    let scope = need.scope().unwrap_or_else(|| panic!("{name} is open"));
                    // `service` and `method` are fields 6 and 2 (descriptor.proto).
                    let path = [6, i32::try_from(at).unwrap(), 2, i32::try_from(number).unwrap()];
                    let info = file.source_code_info.as_ref().unwrap();
                    let place = info.location.iter().find(|place| place.path == path).unwrap();
                    let scopes = [scope].into_iter().chain(need.narrower().iter().copied());
                    let scopes: Vec<_> =
                        scopes.map(|scope| format!("`{}`", scope.name())).collect();
                    let line = format!(" Scope: {}.\n", scopes.join(", or "));
                    assert!(place.leading_comments().ends_with(&line), "{name} lacks {line}");
                    said += 1;
                }
            }
        }
        assert_eq!(said, METHODS.len() - 4, "all but health and reflection");
    }
}
