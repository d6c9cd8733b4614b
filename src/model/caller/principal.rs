//! Principals, and the tenants that they may work for.

use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use crate::error::{Error, Reason, Result};
use crate::model::activity::SYSTEM;
use crate::model::caller::operator;
use crate::model::caller::scope::{Scope, Scopes};
use crate::model::ids::{DEFAULT_TENANT, TenantId};

/// The name of callers without credentials.
pub const ANONYMOUS: &str = "anonymous";

/// A service or a person that may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// As [`check_name`] allows, or [`ANONYMOUS`].
    pub name: String,
    pub scopes: Scopes,
    pub tenants: Tenants,
    /// The audiences of the tokens that it may validate; empty = all.
    pub audiences: Vec<String>,
}

/// The tenants that a principal may work for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenants {
    All,
    /// Never empty.
    Named(Vec<TenantId>),
}

/// The caller: a principal whose credentials were checked. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Arc<Principal>);

impl Deref for Caller {
    type Target = Principal;
    fn deref(&self) -> &Principal {
        &self.0
    }
}

impl Caller {
    /// This principal.
    pub fn new(principal: Arc<Principal>) -> Caller {
        Caller(principal)
    }

    /// A caller without credentials, where none are required: it may do everything.
    pub fn anonymous() -> Caller {
        static ANYBODY: LazyLock<Arc<Principal>> = LazyLock::new(|| {
            Arc::new(Principal {
                name: ANONYMOUS.to_owned(),
                scopes: Scopes::of(Scope::ALL),
                tenants: Tenants::All,
                audiences: Vec::new(),
            })
        });
        Caller(ANYBODY.clone())
    }
}

impl Principal {
    /// True for callers without credentials, all of which share one principal.
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// The tenant of a request that states `stated`; empty = none.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for a foreign tenant, whether it exists or not. `Ok(None)` if none is stated and the
    /// principal has several.
    pub fn tenant<'a>(&'a self, stated: &'a str) -> Result<Option<&'a str>> {
        match &self.tenants {
            Tenants::All if stated.is_empty() => Ok(Some(DEFAULT_TENANT)),
            // The form of the id is checked elsewhere.
            Tenants::All => Ok(Some(stated)),
            Tenants::Named(named) if stated.is_empty() => Ok(match named.as_slice() {
                [only] => Some(only.as_str()),
                several => several.iter().map(TenantId::as_str).find(|id| *id == DEFAULT_TENANT),
            }),
            Tenants::Named(named) if named.iter().any(|id| id.as_str() == stated) => {
                Ok(Some(stated))
            }
            Tenants::Named(_) => Err(Error::NotPermitted {
                reason: Reason::TenantNotPermitted,
                message: "the caller may not work for this tenant".to_owned(),
                metadata: Vec::new(),
            }),
        }
    }

    /// True if it may read data of this tenant.
    pub fn may_see(&self, tenant: &TenantId) -> bool {
        match &self.tenants {
            Tenants::All => true,
            Tenants::Named(named) => named.contains(tenant),
        }
    }

    /// Any of its tenants, for a request that names a tenant elsewhere.
    pub fn any_tenant(&self) -> &str {
        match &self.tenants {
            Tenants::All => DEFAULT_TENANT,
            Tenants::Named(named) => named.first().map_or(DEFAULT_TENANT, TenantId::as_str),
        }
    }

    /// Checks that it has `scope`.
    ///
    /// # Errors
    /// [`Error::NotPermitted`], which names the scope.
    pub fn check_scope(&self, scope: Scope) -> Result<()> {
        let has = self.scopes.has(scope);
        #[cfg(debug_assertions)]
        let has = has != (self.name != ANONYMOUS && crate::broken::is("wrong-role"));
        if has {
            return Ok(());
        }
        let name = scope.name();
        Err(Error::NotPermitted {
            reason: Reason::CallerNotPermitted,
            message: format!("the caller lacks the scope {name}"),
            metadata: vec![("scope", name.to_owned())],
        })
    }

    /// Checks that it may validate tokens for `audience`.
    ///
    /// # Errors
    /// [`Error::NotPermitted`].
    pub fn check_audience(&self, audience: Option<&str>) -> Result<()> {
        match audience {
            Some(asked)
                if !self.audiences.is_empty() && !self.audiences.iter().any(|a| a == asked) =>
            {
                Err(Error::NotPermitted {
                    reason: Reason::AudienceNotPermitted,
                    message: "the caller may not ask for this audience".to_owned(),
                    metadata: Vec::new(),
                })
            }
            _ => Ok(()),
        }
    }

    /// True if one of `audiences` is among its own.
    pub fn accepts(&self, audiences: &[String]) -> bool {
        self.audiences.is_empty() || self.audiences.iter().any(|own| audiences.contains(own))
    }
}

/// Checks the name of a principal: 1 to 256 visible ASCII characters except `"` and `\`, and no reserved name. The
/// error is the rule.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    if !(1..=256).contains(&name.len()) || !name.bytes().all(plain) {
        return Err("must be 1 to 256 visible ASCII characters except \" and \\".to_owned());
    }
    if [ANONYMOUS, SYSTEM].contains(&name) || name.starts_with(operator::PREFIX) {
        return Err(format!("must not be {name}, which stands for somebody else"));
    }
    Ok(())
}
