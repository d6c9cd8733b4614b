//! `grpc.health.v1`: one status for the server as a whole and each service.

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The names that health reports; empty = the server.
const SERVICES: [&str; 3] = ["", "sessiond.v1.SessionService", "sessiond.v1.AlertService"];

/// Reports the health of all services as one.
#[derive(Clone)]
pub struct Health(pub HealthReporter);

impl Health {
    /// Sets the status of all services.
    pub async fn set(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.0.set_service_status(service, status).await;
        }
    }

    /// Reports `SERVING` while the database is `up` and no needed task is `down`, until either sender is dropped.
    pub async fn follow(self, mut up: watch::Receiver<bool>, mut down: watch::Receiver<usize>) {
        loop {
            let serving = *up.borrow_and_update() && *down.borrow_and_update() == 0;
            self.set(serving).await;
            let changed = tokio::select! {
                changed = up.changed() => changed,
                changed = down.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Reports `NOT_SERVING`, and ends the streams of all watchers.
    pub async fn end(mut self) {
        self.set(false).await;
        for service in SERVICES {
            self.0.clear_service_status(service).await;
        }
    }
}
