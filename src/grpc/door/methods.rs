//! The methods that are served, by request path. A path is looked up once for each call.

use std::collections::HashMap;

use anyhow::ensure;
use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

use super::meters::{CallMeters, MethodMeters, OTHER};
use crate::caller::permissions::{METHODS, Permission};
use crate::grpc::pb;
use crate::metrics::Metrics;
use crate::model::caller::usage::CallKind;

/// The descriptors of all services that can be served.
pub const DESCRIPTORS: [&[u8]; 4] = [
    pb::DESCRIPTOR,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

const VALIDATE: &str = "sessiond.v1.SessionService/ValidateSession";
const RECORD: &str = "sessiond.v1.SessionService/RecordActivities";

/// All methods.
pub struct Methods {
    by_path: HashMap<String, usize>,
    rows: Vec<Method>,
    /// Counts calls to paths that are no method.
    pub other: MethodMeters,
}

/// One method.
pub struct Method {
    /// The row in [`METHODS`].
    pub row: usize,
    pub path: String,
    pub need: Permission,
    pub service: ServiceName,
    /// One request and one answer.
    pub is_unary: bool,
    /// Its requests may have megabytes; those of all others are small.
    pub is_large: bool,
    /// Its requests or answers may have megabytes, so only some of its calls are in progress at once.
    pub is_heavy: bool,
    /// Called on every request of a platform: it gets a span only if it fails or is traced.
    pub is_frequent: bool,
    pub meters: MethodMeters,
}

/// The service that a method is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceName {
    Sessions,
    Alerts,
    /// Health and reflection.
    Other,
}

impl Methods {
    /// The table of permissions, for the methods that there are.
    ///
    /// # Errors
    /// A method without a row, a row without a method, or two rows for one.
    pub fn new(metrics: &Metrics) -> anyhow::Result<Methods> {
        let served: Vec<_> = DESCRIPTORS.into_iter().flat_map(methods).collect();
        Methods::of(METHODS, &served, metrics)
    }

    fn of(
        rows: &[(&str, Permission)],
        served: &[(String, MethodDescriptorProto)],
        metrics: &Metrics,
    ) -> anyhow::Result<Methods> {
        let meters = CallMeters::new(metrics);
        let other = meters.of_method(OTHER);
        let mut methods = Methods { by_path: HashMap::new(), rows: Vec::new(), other };
        for (row, (name, need)) in rows.iter().enumerate() {
            let Some((_, served)) = served.iter().find(|(served, _)| served == name) else {
                anyhow::bail!("the table of permissions names {name}, which is not served");
            };
            let method = Method::new((row, name, *need), served, &meters);
            let before = methods.by_path.insert(method.path.clone(), row);
            ensure!(before.is_none(), "the table of permissions names {name} twice");
            methods.rows.push(method);
        }
        for (name, _) in served {
            ensure!(
                methods.find(&format!("/{name}")).is_some(),
                "the table of permissions lacks {name}"
            );
        }
        Ok(methods)
    }

    /// The method with exactly this path.
    pub fn find(&self, path: &str) -> Option<&Method> {
        self.by_path.get(path).and_then(|row| self.get(*row))
    }

    /// The method of this row.
    pub fn get(&self, row: usize) -> Option<&Method> {
        self.rows.get(row)
    }
}

impl Method {
    fn new(
        (row, name, need): (usize, &str, Permission),
        descriptor: &MethodDescriptorProto,
        meters: &CallMeters,
    ) -> Method {
        let service = match name.split_once('/') {
            Some(("sessiond.v1.SessionService", _)) => ServiceName::Sessions,
            Some(("sessiond.v1.AlertService", _)) => ServiceName::Alerts,
            _ => ServiceName::Other,
        };
        let is_large = name == RECORD;
        // A page has up to 3 MiB, an alert with all of its notes 400 KiB.
        let is_list = descriptor.name().starts_with("List") || descriptor.name() == "GetAlert";
        Method {
            row,
            path: format!("/{name}"),
            need,
            service,
            is_unary: !descriptor.client_streaming() && !descriptor.server_streaming(),
            is_large,
            is_heavy: is_large || is_list,
            is_frequent: name == VALIDATE,
            meters: meters.of_method(name),
        }
    }

    /// True for streams of health and reflection, whose handlers do not keep the caller's deadline.
    pub fn lacks_deadline(&self) -> bool {
        !self.is_unary && self.service == ServiceName::Other
    }

    /// What a call of it takes while it is in progress.
    pub fn kind(&self) -> CallKind {
        match self.need {
            Permission::Nothing if self.is_unary => CallKind::Public,
            Permission::Nothing => CallKind::PublicStream,
            _ if self.is_unary => CallKind::Call,
            _ => CallKind::Stream,
        }
    }
}

/// The methods that a descriptor set holds, by their names: `package.Service/Method`.
fn methods(descriptor: &[u8]) -> Vec<(String, MethodDescriptorProto)> {
    let set = FileDescriptorSet::decode(descriptor).expect("a descriptor of this build");
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let name = |m: &MethodDescriptorProto| {
                format!("{}.{}/{}", file.package(), service.name(), m.name())
            };
            methods.extend(service.method.iter().map(|m| (name(m), m.clone())));
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_one_row_and_every_row_a_method() {
        let table = Methods::new(&Metrics::default()).unwrap();
        assert_eq!(table.rows.len(), METHODS.len());
        let served =
            ["a.B/C", "a.B/D"].map(|name| (name.to_owned(), MethodDescriptorProto::default()));
        let of = |rows: &[_]| Methods::of(rows, &served, &Metrics::default());
        let row = |method| (method, Permission::Nothing);
        assert!(of(&[row("a.B/C"), row("a.B/D")]).is_ok());
        for (rows, said) in [
            (&[row("a.B/C")][..], "lacks a.B/D"),
            (&[row("a.B/C"), row("a.B/C"), row("a.B/D")], "a.B/C twice"),
            (&[row("a.B/C"), row("a.B/D"), row("a.B/E")], "a.B/E, which is not served"),
        ] {
            let error = of(rows).err().unwrap().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn only_the_exact_path_is_a_method() {
        let table = Methods::new(&Metrics::default()).unwrap();
        let path = "/sessiond.v1.SessionService/GetSession";
        assert!(table.find(path).is_some());
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
            assert!(table.find(odd).is_none(), "{odd}");
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
