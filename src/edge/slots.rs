//! Limits for the number of connections: in all, and from one address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::caller::connection::CallerConnection;
use crate::model::caller::usage::Usage;

/// The most connections that are looked at to find an idle one that gives way; else the oldest does.
const LOOKED_AT: usize = 256;

/// The connection slots of a port. Cheap to clone; clones share the slots.
#[derive(Clone)]
pub struct ConnectionSlots(Arc<Inner>);

struct Inner {
    most: u32,
    most_per_peer: u32,
    taken: Mutex<TakenSlots>,
}

#[derive(Default)]
struct TakenSlots {
    all: u32,
    /// Only addresses that hold a slot, so there are no more entries than slots.
    by_peer: HashMap<IpAddr, PeerSlots>,
    /// The number of the next connection.
    next: u64,
    /// Connections on which no caller was authenticated when they were last looked at, oldest first.
    unproven: BTreeMap<u64, (IpAddr, Arc<CallerConnection>)>,
}

#[derive(Default)]
struct PeerSlots {
    taken: u32,
    usage: Arc<Usage>,
    /// Its connections in `unproven`.
    unproven: BTreeSet<u64>,
}

/// A taken slot; dropping it frees the slot.
pub struct ConnectionSlot {
    slots: ConnectionSlots,
    number: u64,
    /// The address that the connection counts for: a /64 of IPv6 counts as one.
    pub peer: IpAddr,
    pub connection: Arc<CallerConnection>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    All,
    Peer,
}

impl ConnectionSlots {
    /// Allows `most` connections in all, and `most_per_peer` from one address.
    pub fn new(most: u32, most_per_peer: u32) -> ConnectionSlots {
        ConnectionSlots(Arc::new(Inner { most, most_per_peer, taken: Mutex::default() }))
    }

    /// Takes a slot for a connection from `from`. Where none is free, a connection on which no caller was ever
    /// authenticated is closed for it: the oldest idle one, else the oldest.
    ///
    /// # Errors
    /// [`Full`] if no slot is free, in all or for this address, and no connection gives way.
    pub fn take(&self, from: SocketAddr) -> Result<ConnectionSlot, Full> {
        let peer = peer(from.ip());
        let mut taken = self.lock();
        let of_peer = taken.by_peer.get(&peer).map_or(0, |slots| slots.taken);
        if of_peer >= self.0.most_per_peer && !taken.displace(Some(peer)) {
            return Err(Full::Peer);
        }
        if taken.all >= self.0.most && !taken.displace(None) {
            return Err(Full::All);
        }
        taken.all += 1;
        let number = taken.next;
        let slots = taken.by_peer.entry(peer).or_default();
        slots.taken += 1;
        let connection = Arc::new(CallerConnection::new(from, slots.usage.clone()));
        slots.unproven.insert(number);
        taken.next += 1;
        taken.unproven.insert(number, (peer, connection.clone()));
        drop(taken);
        Ok(ConnectionSlot { slots: self.clone(), number, peer, connection })
    }

    /// The number of slots taken.
    pub fn taken(&self) -> u32 {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, TakenSlots> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakenSlots {
    /// Closes a connection that gives way, of this peer or of any; `false` if there is none.
    fn displace(&mut self, of: Option<IpAddr>) -> bool {
        while let Some((number, peer, connection)) = self.candidate(of) {
            self.forget(number, peer);
            if !connection.is_authenticated() {
                connection.displaced.cancel();
                self.free(peer);
                return true;
            }
            // It proved itself since: it is not looked at again.
        }
        false
    }

    /// The oldest idle one of those that are looked at, else the oldest.
    fn candidate(&self, of: Option<IpAddr>) -> Option<(u64, IpAddr, Arc<CallerConnection>)> {
        let numbers: Vec<u64> = match of {
            Some(peer) => {
                let slots = self.by_peer.get(&peer)?;
                slots.unproven.iter().take(LOOKED_AT).copied().collect()
            }
            None => self.unproven.keys().take(LOOKED_AT).copied().collect(),
        };
        let found = |number: &u64| {
            self.unproven.get(number).map(|(peer, connection)| (*number, *peer, connection))
        };
        let gives_way = |(.., connection): &(u64, IpAddr, &Arc<CallerConnection>)| {
            connection.is_idle() && !connection.is_authenticated()
        };
        let mut all = numbers.iter().filter_map(found);
        let idle = all.clone().find(gives_way).or_else(|| all.next());
        idle.map(|(number, peer, connection)| (number, peer, connection.clone()))
    }

    fn forget(&mut self, number: u64, peer: IpAddr) {
        self.unproven.remove(&number);
        if let Some(slots) = self.by_peer.get_mut(&peer) {
            slots.unproven.remove(&number);
        }
    }

    fn free(&mut self, peer: IpAddr) {
        self.all -= 1;
        if let Some(slots) = self.by_peer.get_mut(&peer) {
            slots.taken -= 1;
            if slots.taken == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.forget(self.number, self.peer);
        // Only `displace` cancels this, and it has freed the slot.
        if !self.connection.displaced.is_cancelled() {
            taken.free(self.peer);
        }
    }
}

/// The address that counts: for IPv6 its /64, since the holder of one address usually has the whole /64.
fn peer(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> SocketAddr {
        (text.parse::<IpAddr>().unwrap(), 1).into()
    }

    /// A slot of a connection on which a caller was authenticated.
    fn proven(slots: &ConnectionSlots, text: &str) -> Result<ConnectionSlot, Full> {
        let slot = slots.take(ip(text))?;
        slot.connection.authenticate();
        Ok(slot)
    }

    #[test]
    fn a_dropped_slot_is_free_again() {
        let slots = ConnectionSlots::new(3, 2);
        let first = proven(&slots, "192.0.2.1").unwrap();
        let second = proven(&slots, "::ffff:192.0.2.1").unwrap();
        assert_eq!(proven(&slots, "192.0.2.1").err(), Some(Full::Peer));
        let third = proven(&slots, "192.0.2.2").unwrap();
        assert_eq!(proven(&slots, "192.0.2.3").err(), Some(Full::All));
        assert_eq!(slots.taken(), 3);
        drop((first, third));
        assert_eq!(slots.lock().by_peer.len(), 1);
        let _first = proven(&slots, "192.0.2.1").unwrap();
        drop(second);
        assert_eq!(slots.taken(), 1);
    }

    #[test]
    fn a_64_of_ipv6_is_one_address() {
        let slots = ConnectionSlots::new(9, 1);
        let _slot = proven(&slots, "2001:db8:1:2::1").unwrap();
        assert_eq!(proven(&slots, "2001:db8:1:2:ffff::9").err(), Some(Full::Peer));
        assert!(proven(&slots, "2001:db8:1:3::1").is_ok());
    }

    #[test]
    fn the_oldest_idle_connection_that_proved_nothing_gives_way() {
        let slots = ConnectionSlots::new(3, 2);
        let known = proven(&slots, "192.0.2.1").unwrap();
        let busy = slots.take(ip("192.0.2.2")).unwrap();
        busy.connection.begin_call();
        let idle = slots.take(ip("192.0.2.2")).unwrap();
        // Of the same address, where that is full.
        let next = slots.take(ip("192.0.2.2")).unwrap();
        assert!(idle.connection.displaced.is_cancelled());
        assert!(![&known, &busy].iter().any(|slot| slot.connection.displaced.is_cancelled()));
        assert_eq!(slots.taken(), 3);
        drop(idle);
        assert_eq!(slots.taken(), 3, "its slot was free already");
        // Of any address, where all are full.
        let last = proven(&slots, "192.0.2.3").unwrap();
        assert!(next.connection.displaced.is_cancelled());
        // One with a call gives way where no other does: without credentials it can only watch.
        let newest = proven(&slots, "192.0.2.4").unwrap();
        assert!(busy.connection.displaced.is_cancelled());
        assert_eq!(slots.take(ip("192.0.2.5")).err(), Some(Full::All), "all proved themselves");
        drop((known, busy, next, last, newest));
        assert_eq!(slots.taken(), 0);
        assert!(slots.lock().unproven.is_empty() && slots.lock().by_peer.is_empty());
    }

    #[test]
    fn no_crowd_of_others_hides_the_connections_of_an_address() {
        let slots = ConnectionSlots::new(10_000, 1_000);
        let crowd: Vec<_> = (0..LOOKED_AT + 10).map(|_| slots.take(ip("192.0.2.1"))).collect();
        crowd.iter().flatten().for_each(|slot| slot.connection.begin_call());
        let _own: Vec<_> = (0..1_000).map(|_| slots.take(ip("192.0.2.2")).unwrap()).collect();
        assert!(slots.take(ip("192.0.2.2")).is_ok());
    }
}
