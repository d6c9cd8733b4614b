//! How many calls may be in progress: in all, of one principal, and from one address. Calls, streams, and calls without
//! credentials have room of their own.

use std::sync::Arc;

use prometheus::IntCounterVec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::caller::directory::KnownCaller;
use crate::config::shares::ShareLimits;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::caller::connection::CallerConnection;
use crate::model::caller::usage::{CallKind, Share, Usage};

/// The most heavy calls in progress in all. An answer has up to 3 MiB, beside the rows it was made of.
const HEAVY_CALLS: usize = 64;

/// What is in use on this server.
pub struct Shares {
    limits: ShareLimits,
    used: Arc<Usage>,
    heavy: Arc<Semaphore>,
    refused: IntCounterVec,
}

/// The room that a call takes. Dropping it gives the room back.
pub struct Permit {
    shares: Arc<Shares>,
    connection: Arc<CallerConnection>,
    caller: Option<Arc<KnownCaller>>,
    kind: CallKind,
    heavy: Option<HeavyPermit>,
}

/// The room of a call whose request or answer may be large: of its principal, and of all.
pub type HeavyPermit = [OwnedSemaphorePermit; 2];

impl Shares {
    pub fn new(limits: ShareLimits, metrics: &Metrics) -> Shares {
        let used = Arc::new(Usage::default());
        let help = "Calls and streams whose answer is not over.";
        let counted = used.clone();
        metrics.sampled("requests_in_progress", help, move || {
            CallKind::ALL.into_iter().map(|kind| f64::from(counted.taken(kind))).sum()
        });
        let (help, counted) = ("Open streams of authenticated callers.", used.clone());
        metrics.sampled("streams_open", help, move || f64::from(counted.taken(CallKind::Stream)));
        let help = "Calls refused because their share was used up: of all, of a principal, of an address (peer).";
        let refused = metrics.counters("requests_shed_total", help, &["kind", "share"]);
        for kind in CallKind::ALL {
            for share in [Share::All, Share::Principal, Share::Peer] {
                refused.with_label_values(&[kind.name(), share.name()]);
            }
        }
        Shares { limits, used, heavy: Arc::new(Semaphore::new(HEAVY_CALLS)), refused }
    }

    /// Takes room for a call. `caller` is `None` for a call that needs no credentials, or where anybody may call.
    ///
    /// # Errors
    /// [`Error::ShareUsedUp`], which names the share.
    pub fn admit(
        self: &Arc<Shares>,
        kind: CallKind,
        connection: &Arc<CallerConnection>,
        caller: Option<&Arc<KnownCaller>>,
    ) -> Result<Permit> {
        let limits = self.limits.of(kind);
        // The narrowest share first: who has used up their own takes nothing of the others meanwhile.
        if let Some(caller) = caller
            && !caller.account.usage.take(kind, limits.per_principal)
        {
            return Err(self.refuse(kind, Share::Principal, limits.per_principal));
        }
        let give_back = || caller.iter().for_each(|caller| caller.account.usage.give_back(kind));
        if !connection.peer.take(kind, limits.per_peer) {
            give_back();
            return Err(self.refuse(kind, Share::Peer, limits.per_peer));
        }
        if !self.used.take(kind, limits.all) {
            connection.peer.give_back(kind);
            give_back();
            return Err(self.refuse(kind, Share::All, limits.all));
        }
        connection.begin_call();
        let (shares, connection) = (self.clone(), connection.clone());
        Ok(Permit { shares, connection, caller: caller.cloned(), kind, heavy: None })
    }

    /// Room for a heavy call, if there is any now.
    pub fn try_heavy(&self, caller: &KnownCaller) -> Option<HeavyPermit> {
        let own = caller.account.heavy.clone().try_acquire_owned().ok()?;
        Some([own, self.heavy.clone().try_acquire_owned().ok()?])
    }

    /// Waits for room for a heavy call: first that of its principal, so that none holds up others while it waits.
    pub async fn heavy(&self, caller: &KnownCaller) -> HeavyPermit {
        const OPEN: &str = "the semaphore is never closed";
        let own = caller.account.heavy.clone().acquire_owned().await.expect(OPEN);
        [own, self.heavy.clone().acquire_owned().await.expect(OPEN)]
    }

    fn refuse(&self, kind: CallKind, share: Share, limit: u32) -> Error {
        self.refused.with_label_values(&[kind.name(), share.name()]).inc();
        Error::ShareUsedUp { kind, share, limit }
    }
}

impl Permit {
    /// The same, with room for a large message.
    pub fn with_heavy(mut self, heavy: HeavyPermit) -> Permit {
        self.heavy = Some(heavy);
        self
    }

    /// The connection of the call.
    pub fn connection(&self) -> &Arc<CallerConnection> {
        &self.connection
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connection.end_call();
        self.shares.used.give_back(self.kind);
        self.connection.peer.give_back(self.kind);
        if let Some(caller) = &self.caller {
            caller.account.usage.give_back(self.kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::account::Account;
    use crate::config::shares::KindLimits;
    use crate::model::caller::principal::Caller;

    fn shares() -> Arc<Shares> {
        let few = KindLimits { all: 3, per_principal: 1, per_peer: 2 };
        let limits = ShareLimits { calls: few, streams: few, public: few };
        Arc::new(Shares::new(limits, &Metrics::default()))
    }

    fn caller() -> Arc<KnownCaller> {
        let account = Arc::new(Account::new(0));
        Arc::new(KnownCaller { caller: Caller::anonymous(), account })
    }

    fn connection() -> Arc<CallerConnection> {
        Arc::new(CallerConnection::new("192.0.2.1:1".parse().unwrap(), Arc::default()))
    }

    fn refused(admitted: Result<Permit>) -> Option<Share> {
        match admitted.err()? {
            Error::ShareUsedUp { share, .. } => Some(share),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn each_share_ends_at_its_limit_and_a_refusal_takes_nothing() {
        let (shares, [a, b, c, d]) = (shares(), [(); 4].map(|()| caller()));
        let (one, other) = (connection(), connection());
        let admit = |at: &Arc<CallerConnection>, who: &Arc<KnownCaller>| {
            shares.admit(CallKind::Call, at, Some(who))
        };
        let first = admit(&one, &a);
        assert_eq!(refused(admit(&other, &a)), Some(Share::Principal));
        let second = admit(&one, &b);
        assert_eq!(refused(admit(&one, &c)), Some(Share::Peer));
        let third = admit(&other, &c);
        assert_eq!(refused(admit(&other, &d)), Some(Share::All));
        assert!(shares.admit(CallKind::Stream, &one, Some(&a)).is_ok(), "another kind");
        assert!(shares.admit(CallKind::Public, &one, None).is_ok(), "another kind");
        drop((first, second, third));
        assert!(shares.used.is_idle() && one.peer.is_idle() && one.is_idle());
        assert!([a, b, c, d].iter().all(|caller| caller.account.usage.is_idle()));
    }

    #[test]
    fn a_heavy_call_takes_room_of_its_principal_before_that_of_all() {
        let (shares, a) = (shares(), caller());
        let held: Vec<_> = std::iter::from_fn(|| shares.try_heavy(&a)).collect();
        assert_eq!(held.len(), crate::caller::account::HEAVY_CALLS);
        assert!(shares.try_heavy(&caller()).is_some(), "another principal");
    }
}
