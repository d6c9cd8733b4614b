//! Callers with keys: one for each role without full permissions, and their calls.

use std::time::Duration;

use sessiond::caller::manage::{Grant, Manage};
use sessiond::caller::permissions::{METHODS, Permission, Role};
use sessiond::clock::Clock;
use sessiond::model::caller::operator::Operator;
use sessiond::store::pool::Database;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::call::{Body, Call};
use crate::directory::Directory;
use crate::make;
use crate::record::What;
use crate::rng::Rng;

/// Longer than a run.
const LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Paths that are not methods, but look like that of a create.
const ODD_PATHS: [&str; 7] = [
    "//sessiond.v1.SessionService/CreateSession",
    "/sessiond.v1.SessionService//CreateSession",
    "/sessiond.v1.SessionService/CreateSession/",
    "/sessiond.v1.SessionService/./CreateSession",
    "/sessiond.v1.SessionService/%43reateSession",
    "/sessiond.v1.SessionService/createSession",
    "/Session.v1.SessionService/CreateSession",
];

/// Adds the key to each call, if there is one.
#[derive(Clone, Default)]
pub struct Key(Option<AsciiMetadataValue>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

/// By role.
pub struct Keys(Vec<(Role, Key)>);

impl Keys {
    /// Creates the keys. Replicas accept them within the bound.
    pub async fn make(database_url: &str) -> anyhow::Result<Keys> {
        let manage = Manage::new(
            Database::new(database_url, 1)?,
            Clock::system(),
            Operator::named("history").map_err(anyhow::Error::msg)?,
        );
        let mut keys = Vec::new();
        for role in Role::ALL.iter().filter(|role| **role != Role::Admin) {
            let tenants = vec!["*".to_owned()];
            let grant = Grant { roles: vec![*role], tenants, ..Grant::default() };
            let made = manage.create_key(role.name(), LIFE, Some(&grant)).await?;
            keys.push((*role, Key(Some(format!("Bearer {}", made.text).parse()?))));
        }
        Ok(Keys(keys))
    }

    pub fn of(&self, role: Option<Role>) -> Key {
        let known = self.0.iter().find(|(of, _)| Some(*of) == role);
        known.map(|(_, key)| key.clone()).unwrap_or_default()
    }

    pub fn role(&self, rng: &mut Rng) -> Role {
        rng.pick(&self.0).0
    }
}

/// A call of any method with some role, or a create with an unknown path.
pub fn probe(keys: &Keys, directory: &Directory, rng: &mut Rng) -> Call {
    let who = make::user(rng);
    if rng.chance(33) {
        let path = (*rng.pick(&ODD_PATHS)).to_owned();
        let create = make::create(who, directory, rng);
        if let (What::Create { tag, .. }, Body::Create(message)) = (create.what, create.body) {
            let what = What::Probe { path: path.clone(), tag };
            return Call::new(who, what, Body::Probe(path, Box::new(message)));
        }
    }
    let of_roles: Vec<&str> = METHODS
        .iter()
        .filter(|(_, need)| *need != Permission::Nothing)
        .map(|(name, _)| *name)
        .collect();
    let path = format!("/{}", rng.pick(&of_roles));
    let what = What::Probe { path: path.clone(), tag: String::new() };
    let call = Call::new(who, what, Body::Probe(path, Box::default()));
    Call { role: Some(keys.role(rng)), ..call }
}
