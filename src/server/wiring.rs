//! Hands each part exactly what it needs.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::alert::{self, raise::Raise, read::Read, resolve::Resolve, rules::Rules, work::Work};
use crate::cache::feed::Hub;
use crate::cache::policies::Policies;
use crate::cache::seen::Seen;
use crate::cache::sessions::SessionReader;
use crate::cache::tail::Tail;
use crate::cache::whole::{Changes, Whole};
use crate::caller::admission::Admission;
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
    notice::Notices,
    passed_over::PassedOver,
    reauthenticate::Reauthenticate,
    record_activities::RecordActivities,
    refresh::{Rate, Refresh},
    restore::{self, Cutoff, RestoreWatch},
    retain::Retain,
    roll_up::RollUp,
    stats::Stats,
    terminate::Terminate,
    terminate_many::TerminateMany,
    touch::Touches,
    update::Update,
    update_policy::UpdatePolicy,
    validate::Validate,
    watch::Watch,
    watch_revocations::WatchRevocations,
};
use crate::store::pool::Database;
use crate::supervise::Tasks;
use crate::token::cursor::Cursors;
use crate::token::issuer::Issuer;
use crate::token::key_work::KeyWork;
use crate::token::keys::Keys;

/// The services and the jobs.
pub(super) struct Wired {
    pub sessions: SessionApi,
    pub alerts: AlertApi,
    pub keys: Keys,
    pub jobs: jobs::Jobs,
    /// Who is let in.
    pub admission: Admission,
}

impl Wired {
    /// Over `db`, whose first keys it makes; streams end when `drain` is cancelled.
    ///
    /// # Errors
    /// An outage, or keys that the master key does not open.
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
        // A session is worth more bytes than its token.
        let (for_tokens, for_sessions) = (settings.cache_bytes / 3, settings.cache_bytes / 3 * 2);
        let flush = settings.intervals.flush;
        let passed_over = PassedOver::new(metrics);
        let passed = |by: &str| passed_over.by(by);
        let bound = settings.staleness_bound;
        let touches = Touches::new(db.clone(), flush, bound, passed("touches"));
        sampled::register(metrics, db, clock, &touches, settings.dangerously_insecure);
        let (seen, changes) = (Seen::default(), Changes::default());
        let (master, ahead) = (&settings.master_key, settings.key_publish_ahead);
        let by = Operator::service();
        let key_work = KeyWork::new(db.clone(), master.clone(), clock.clone(), ahead, by);
        key_work.begin(settings.key_algorithm).await?;
        let keys = Keys::open(db, master, seen.clone(), bound, &changes).await?;
        let issuer = Issuer::new(&settings.issuer, keys.clone(), for_tokens);
        let reader = SessionReader::new(db.clone(), seen.clone(), bound, for_sessions, metrics);
        let admission = admission(settings, db, clock, &seen, &changes);
        let tail =
            Tail::new(db.clone(), reader.clone(), changes, seen.clone(), clock.clone(), metrics);
        let locator = &settings.locator;
        let hub = Hub::new(db.clone(), settings.watch, tasks.clone());
        let of = db.clone();
        let cursors = Cursors::new(keys.clone(), move || of.timeline());
        let streams = Arc::new(Streams::new(cursors, settings.watch, clock.clone(), drain.clone()));
        let passing = passed("notices");
        let notices = Notices::new(db.clone(), clock.clone(), locator.clone(), passing);
        let parts = create::Parts {
            db: db.clone(),
            clock: clock.clone(),
            issuer: issuer.clone(),
            touches: touches.clone(),
            notices: notices.clone(),
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
            notices.clone(),
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
            TerminateMany::new(db.clone(), clock.clone(), touches.clone(), tail.clone(), passing)
        };
        let roll_up = RollUp::new(db.clone(), clock.clone(), passed("statistics"));
        let restores = restore::Parts {
            db: db.clone(),
            clock: clock.clone(),
            tail: tail.clone(),
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
            update: Update::new(db.clone(), clock.clone(), touches.clone()),
            devices: Devices {
                read: devices::read::Read::new(db.clone(), clock.clone(), touches.clone()),
                update: devices::update::Update::new(db.clone(), clock.clone(), touches.clone()),
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
            watch: Watch::new(hub.clone()),
            watch_revocations: WatchRevocations::new(
                db.clone(),
                tail.clone(),
                clock.clone(),
                &settings.watch,
            ),
            activities: Activities {
                record: RecordActivities::new(db.clone(), clock.clone(), locator.clone()),
                list: ListActivities::new(db.clone()),
            },
            streams: streams.clone(),
            stats: Stats::new(db.clone(), clock.clone()),
            keys: keys.clone(),
            clock: clock.clone(),
        };
        let alerts = AlertApi {
            read: Read::new(db.clone()),
            work: Work::new(db.clone(), clock.clone()),
            resolve: Resolve::new(Work::new(db.clone(), clock.clone()), terminate_many()),
            raise: Raise::new(db.clone(), clock.clone()),
            rules: Rules::new(db.clone(), clock.clone(), policies.clone()),
            watch: alert::watch::Watch::new(hub),
            evaluate: Evaluate::new(db.clone(), policies.clone()),
            keys: keys.clone(),
            streams,
            stats: alert::stats::Stats::new(db.clone(), clock.clone()),
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
            notices,
            reader,
            tail,
            locator: settings.locator.clone(),
            certificates,
            insecure: settings.dangerously_insecure,
            intervals: settings.intervals,
        };
        Ok(Wired { sessions, alerts, keys, jobs, admission })
    }
}

/// By the callers as they are known here.
fn admission(
    settings: &Settings,
    db: &Database,
    clock: &Clock,
    seen: &Seen,
    changes: &Changes,
) -> Admission {
    let own = clock.clone();
    let read = move |db: Database| {
        let clock = own.clone();
        async move { Directory::read(&db, clock.now()).await }
    };
    let bound = settings.staleness_bound;
    let directory = Whole::new(db.clone(), seen.clone(), bound, changes.callers.clone(), read);
    Admission::new(settings.callers, directory, clock.clone())
}
