//! How often a peer may connect: a token bucket for each address, in bounded memory.
//!
//! The `governor` crate, which limits calls, does not suit: its buckets never go into debt, so a peer with an empty
//! bucket could breach the protocol for free.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

/// The most addresses with a bucket, some 5 MB. One more evicts another, whose bucket is then full again: an attacker
/// with that many addresses must be stopped elsewhere, and must not get other peers refused here.
const MOST: usize = 65_536;
/// How many further connections a breach counts as: its cost is that of very many calls.
const BREACH: u32 = 20;

/// The buckets of a port.
pub struct Paces(Option<Inner>);

struct Inner {
    /// The time in which a bucket gains one connection.
    drop: Duration,
    /// The time in which an empty bucket fills up.
    period: Duration,
    /// When the bucket of an address is full again: the "theoretical arrival time" of the virtual scheduling algorithm
    /// (ITU-T I.371, annex A).
    full_at: Mutex<Cache<IpAddr, Instant>>,
}

impl Paces {
    /// Allows `rate` connections per second from one address, and `burst` at once; a rate of 0 means no limit.
    pub fn new(rate: u32, burst: u32) -> Paces {
        Paces(NonZeroU32::new(rate).map(|rate| {
            let drop = Duration::from_secs(1) / rate.get();
            Inner { drop, period: drop * burst, full_at: Mutex::new(Cache::new(MOST)) }
        }))
    }

    /// Counts a connection of the peer. Returns false if the peer exceeds the rate; the connection is not counted then.
    pub fn admit(&self, peer: IpAddr, now: Instant) -> bool {
        let Some(inner) = &self.0 else { return true };
        inner.update(peer, now, |full_at| {
            Some(full_at + inner.drop).filter(|full_at| *full_at <= now + inner.period)
        })
    }

    /// Counts a breach by the peer. An empty bucket goes into debt, so that the breach is not free. The debt is one
    /// breach at most, so that a peer that stops is admitted again soon.
    pub fn breach(&self, peer: IpAddr, now: Instant) {
        let Some(inner) = &self.0 else { return };
        let breach = inner.drop * BREACH;
        inner
            .update(peer, now, |full_at| Some((full_at + breach).min(now + inner.period + breach)));
    }
}

impl Inner {
    fn update(
        &self,
        peer: IpAddr,
        now: Instant,
        next: impl Fn(Instant) -> Option<Instant>,
    ) -> bool {
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = all.get(&peer).copied().map_or(now, |full_at| full_at.max(now));
        let next = next(full_at);
        if let Some(next) = next {
            all.insert(peer, next);
        }
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn admitted(paces: &Paces, now: Instant) -> usize {
        (0..1000).take_while(|_| paces.admit(PEER, now)).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (paces, now) = (Paces::new(10, 50), Instant::now());
        assert_eq!(admitted(&paces, now), 50);
        assert!(paces.admit("192.0.2.1".parse().unwrap(), now), "another peer");
        assert_eq!(admitted(&paces, now + Duration::from_millis(99)), 0);
        assert_eq!(admitted(&paces, now + Duration::from_millis(1100)), 11);
        assert_eq!(admitted(&paces, now + Duration::from_secs(3600)), 50, "never more");
    }

    #[test]
    fn a_breach_costs_many_connections_and_its_debt_is_bounded() {
        let (paces, now) = (Paces::new(10, 50), Instant::now());
        paces.breach(PEER, now);
        assert_eq!(admitted(&paces, now), 30);
        for _ in 0..1000 {
            paces.breach(PEER, now);
        }
        assert_eq!(admitted(&paces, now + Duration::from_secs(2)), 0);
        let later = now + Duration::from_millis(2100);
        assert_eq!(admitted(&paces, later), 1);
        paces.breach(PEER, later);
        assert_eq!(admitted(&paces, later + Duration::from_secs(2)), 0);
        assert_eq!(admitted(&paces, later + Duration::from_millis(2100)), 1);
    }

    #[test]
    fn zero_means_no_limit() {
        let paces = Paces::new(0, 1);
        paces.breach(PEER, Instant::now());
        assert_eq!(admitted(&paces, Instant::now()), 1000);
    }

    #[test]
    fn memory_is_bounded() {
        let (paces, now) = (Paces::new(1, 1), Instant::now());
        for address in 0..2 * MOST as u32 {
            assert!(paces.admit(std::net::Ipv4Addr::from_bits(address).into(), now));
        }
        let all = paces.0.as_ref().unwrap().full_at.lock().unwrap();
        assert!(all.len() <= MOST, "{}", all.len());
    }
}
