//! Builds the services and the jobs, and passes each part its dependencies.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::alert::{
    self, raise::Raise, read::ReadAlerts, resolve::Resolve, rules::ReadRules, work::AlertWorkflow,
};
use crate::cache::feed::Hub;
use crate::cache::policies::Policies;
use crate::cache::progress::RevocationProgress;
use crate::cache::revocation_feed::RevocationFeed;
use crate::cache::sessions::SessionReader;
use crate::cache::table::{TableCache, TableVersions};
use crate::caller::account::Accounts;
use crate::caller::authenticator::Authenticator;
use crate::caller::directory::Directory;
use crate::clock::Clock;
use crate::edge::tls::Certificates;
use crate::grpc::activity::Activities;
use crate::grpc::alert::AlertApi;
use crate::grpc::device::Devices;
use crate::grpc::session::SessionApi;
use crate::grpc::watch::Streams;
use crate::metrics::Metrics;
use crate::model::caller::operator::Operator;
use crate::server::settings::Settings;
use crate::server::{jobs, sampled};
use crate::session::{
    apply_policy::ApplyPolicy,
    create,
    create::Create,
    detect::Detect,
    devices,
    erase::Erase,
    evaluate::Evaluate,
    expire::Expire,
    get::Get,
    get_policy::GetPolicy,
    list::List,
    list_activities::ListActivities,
    list_tenants::ListTenants,
    observations::Observations,
    reauthenticate::Reauthenticate,
    record_activities::RecordActivities,
    refresh::{Rate, Refresh},
    restore::{self, Cutoff, RestoreWatch},
    retain::Retain,
    roll_up::RollUp,
    skipped_rows::SkippedRows,
    stats::SessionStats,
    terminate::Terminate,
    terminate_many::TerminateMany,
    touch::Touches,
    update::UpdateSession,
    update_policy::UpdatePolicy,
    validate::Validate,
    watch::WatchSessions,
    watch_revocations::WatchRevocations,
};
use crate::store::pool::Database;
use crate::supervise::Tasks;
use crate::token::cursor::Cursors;
use crate::token::issuer::Issuer;
use crate::token::key_work::KeyWork;
use crate::token::keys::KeyCache;

/// The services and the jobs.
pub(super) struct Wired {
    pub sessions: SessionApi,
    pub alerts: AlertApi,
    pub keys: KeyCache,
    pub jobs: jobs::Jobs,
    /// Authenticates callers.
    pub authenticator: Authenticator,
}

impl Wired {
    /// Builds the parts on `db`, and creates its first keys. Streams end when `drain` is cancelled.
    ///
    /// # Errors
    /// If the database cannot be reached, or the master key does not decrypt the keys.
    pub async fn new(
        settings: &Settings,
        db: &Database,
        clock: &Clock,
        metrics: &Metrics,
        tasks: &Tasks,
        certificates: Option<Arc<Certificates>>,
        drain: &CancellationToken,
    ) -> anyhow::Result<Wired> {
        let policies =
            Policies::new(settings.policy.clone(), settings.detection.clone(), db.clone());
        // A cached session takes more memory than a verified token, so sessions get two thirds.
        let (for_tokens, for_sessions) = (settings.cache_bytes / 3, settings.cache_bytes / 3 * 2);
        let flush = settings.intervals.flush;
        let skipped_rows = SkippedRows::new(metrics);
        let passed = |by: &str| skipped_rows.by(by);
        let bound = settings.staleness_bound;
        let touches = Touches::new(db.clone(), flush, bound, passed("touches"));
        sampled::register(metrics, db, clock, &touches, settings.dangerously_insecure);
        let (seen, changes) = (RevocationProgress::default(), TableVersions::default());
        let (master, ahead) = (&settings.master_key, settings.key_publish_ahead);
        let by = Operator::service();
        let key_work = KeyWork::new(db.clone(), master.clone(), clock.clone(), ahead, by);
        key_work.begin(settings.key_algorithm).await?;
        let keys = KeyCache::open(db, master, seen.clone(), bound, &changes).await?;
        let issuer = Issuer::new(&settings.issuer, keys.clone(), for_tokens);
        let reader = SessionReader::new(db.clone(), seen.clone(), bound, for_sessions, metrics);
        let authenticator = authenticator(settings, db, clock, &seen, &changes);
        let revocation_feed = RevocationFeed::new(
            db.clone(),
            reader.clone(),
            changes,
            seen.clone(),
            clock.clone(),
            metrics,
        );
        let locator = &settings.locator;
        let hub = Hub::new(db.clone(), settings.watch, tasks.clone());
        let of = db.clone();
        let cursors = Cursors::new(keys.clone(), move || of.timeline());
        let streams = Arc::new(Streams::new(cursors, settings.watch, clock.clone(), drain.clone()));
        let passing = passed("observations");
        let observations = Observations::new(db.clone(), clock.clone(), locator.clone(), passing);
        let parts = create::Parts {
            db: db.clone(),
            clock: clock.clone(),
            issuer: issuer.clone(),
            touches: touches.clone(),
            observations: observations.clone(),
            locator: locator.clone(),
            reader: reader.clone(),
        };
        let create = Create::new(policies.clone(), parts, tasks);
        let cutoff = Cutoff::default();
        let refresh = Refresh::new(
            db,
            Rate::per_minute(settings.refresh_limit),
            clock.clone(),
            policies.clone(),
            issuer.clone(),
            touches.clone(),
            locator.clone(),
            reader.clone(),
            cutoff.clone(),
            tasks,
        );
        let validate = Validate::new(
            reader.clone(),
            policies.clone(),
            issuer.clone(),
            touches.clone(),
            observations.clone(),
            cutoff.clone(),
            clock.clone(),
        );
        let reauthenticate = Reauthenticate::new(
            db.clone(),
            clock.clone(),
            policies.clone(),
            issuer.clone(),
            touches.clone(),
            locator.clone(),
            cutoff.clone(),
        );
        let passing = passed("apply_policy");
        let apply =
            ApplyPolicy::new(db.clone(), clock.clone(), touches.clone(), policies.clone(), passing);
        let terminate = Terminate::new(db.clone(), clock.clone(), issuer, touches.clone());
        let terminate_many = || {
            let passing = passed("terminate_many");
            TerminateMany::new(
                db.clone(),
                clock.clone(),
                touches.clone(),
                revocation_feed.clone(),
                passing,
            )
        };
        let roll_up = RollUp::new(db.clone(), clock.clone(), passed("statistics"));
        let restores = restore::RestoreParts {
            db: db.clone(),
            clock: clock.clone(),
            revocation_feed: revocation_feed.clone(),
            seen,
            terminate: terminate_many(),
            cutoff,
            on_restore: settings.on_restore,
            file: settings.position_file.clone(),
        };
        let revoke =
            Arc::new(devices::revoke::Revoke::new(db.clone(), clock.clone(), terminate_many()));
        let sessions = SessionApi {
            create,
            refresh,
            validate: Arc::new(validate),
            reauthenticate,
            terminate,
            terminate_many: terminate_many(),
            erase: Erase::new(db.clone(), clock.clone(), roll_up.clone()),
            get: Get::new(db.clone(), clock.clone(), touches.clone()),
            list: List::new(db.clone(), clock.clone(), touches.clone()),
            update: UpdateSession::new(db.clone(), clock.clone(), touches.clone()),
            devices: Devices {
                read: devices::read::ReadDevices::new(db.clone(), clock.clone(), touches.clone()),
                update: devices::update::UpdateDevice::new(
                    db.clone(),
                    clock.clone(),
                    touches.clone(),
                ),
                forget: devices::forget::Forget::new(db.clone(), clock.clone(), revoke.clone()),
                revoke,
            },
            list_tenants: ListTenants::new(db.clone()),
            get_policy: GetPolicy::new(db.clone(), policies.clone()),
            update_policy: UpdatePolicy::new(
                db.clone(),
                clock.clone(),
                policies.clone(),
                apply.clone(),
            ),
            watch: WatchSessions::new(hub.clone()),
            watch_revocations: WatchRevocations::new(
                db.clone(),
                revocation_feed.clone(),
                clock.clone(),
                &settings.watch,
            ),
            activities: Activities {
                record: RecordActivities::new(db.clone(), clock.clone(), locator.clone()),
                list: ListActivities::new(db.clone()),
            },
            streams: streams.clone(),
            stats: SessionStats::new(db.clone(), clock.clone()),
            keys: keys.clone(),
            clock: clock.clone(),
        };
        let alerts = AlertApi {
            read: ReadAlerts::new(db.clone()),
            work: AlertWorkflow::new(db.clone(), clock.clone()),
            resolve: Resolve::new(AlertWorkflow::new(db.clone(), clock.clone()), terminate_many()),
            raise: Raise::new(db.clone(), clock.clone()),
            rules: ReadRules::new(db.clone(), clock.clone(), policies.clone()),
            watch: alert::watch::WatchAlerts::new(hub),
            evaluate: Evaluate::new(db.clone(), policies.clone()),
            keys: keys.clone(),
            streams,
            stats: alert::stats::AlertStats::new(db.clone(), clock.clone()),
            clock: clock.clone(),
        };
        let jobs = jobs::Jobs {
            expire: Expire::new(db.clone(), clock.clone(), touches.clone(), metrics),
            detect: Detect::new(
                db.clone(),
                clock.clone(),
                policies.clone(),
                touches.clone(),
                passed("detection"),
            ),
            retain: Retain::new(db.clone(), clock.clone(), settings.activity_retention, metrics),
            apply,
            roll_up,
            restores: RestoreWatch::new(restores, metrics),
            key_work,
            key_rotation: settings.key_rotation,
            touches,
            observations,
            reader,
            revocation_feed,
            locator: settings.locator.clone(),
            certificates,
            insecure: settings.dangerously_insecure,
            intervals: settings.intervals,
        };
        Ok(Wired { sessions, alerts, keys, jobs, authenticator })
    }
}

/// The authenticator over a cache of the principals in the database.
fn authenticator(
    settings: &Settings,
    db: &Database,
    clock: &Clock,
    seen: &RevocationProgress,
    changes: &TableVersions,
) -> Authenticator {
    let (own, accounts) = (clock.clone(), Accounts::new(settings.rate_limit));
    let read = move |db: Database| {
        let clock = own.clone();
        let accounts = accounts.clone();
        async move { Directory::read(&db, clock.now(), &accounts).await }
    };
    let bound = settings.staleness_bound;
    let directory = TableCache::new(db.clone(), seen.clone(), bound, changes.callers.clone(), read);
    Authenticator::new(settings.callers, directory, clock.clone())
}
