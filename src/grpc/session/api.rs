//! The parts of `sessiond.v1.SessionService`.

use std::sync::Arc;

use crate::clock::Clock;
use crate::grpc::activity::Activities;
use crate::grpc::device::Devices;
use crate::grpc::watch::Streams;
use crate::session::{
    create::Create, erase::Erase, get::Get, get_policy::GetPolicy, list::List,
    list_tenants::ListTenants, reauthenticate::Reauthenticate, refresh::Refresh,
    stats::SessionStats, terminate::Terminate, terminate_many::TerminateMany,
    update::UpdateSession, update_policy::UpdatePolicy, validate::Validate, watch::WatchSessions,
    watch_revocations::WatchRevocations,
};
use crate::token::keys::KeyCache;

/// The service, with the operations that it calls.
pub struct SessionApi {
    pub create: Create,
    pub refresh: Refresh,
    pub validate: Arc<Validate>,
    pub reauthenticate: Reauthenticate,
    pub terminate: Terminate,
    pub terminate_many: TerminateMany,
    pub erase: Erase,
    pub get: Get,
    pub list: List,
    pub update: UpdateSession,
    pub devices: Devices,
    pub list_tenants: ListTenants,
    pub get_policy: GetPolicy,
    pub update_policy: UpdatePolicy,
    pub watch: WatchSessions,
    pub watch_revocations: WatchRevocations,
    pub activities: Activities,
    pub streams: Arc<Streams>,
    pub stats: SessionStats,
    pub keys: KeyCache,
    pub clock: Clock,
}
