//! Limits for the number of connections: in all, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    by_peer: HashMap<IpAddr, u32>,
}

/// A taken slot; dropping it frees the slot.
pub struct ConnectionSlot {
    slots: ConnectionSlots,
    /// The address that the connection counts for: a /64 of IPv6 counts as one.
    pub peer: IpAddr,
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

    /// Takes a slot for a connection from `from`.
    ///
    /// # Errors
    /// [`Full`] if no slot is free, in all or for this address.
    pub fn take(&self, from: IpAddr) -> Result<ConnectionSlot, Full> {
        let peer = peer(from);
        let mut taken = self.lock();
        if taken.all >= self.0.most {
            return Err(Full::All);
        }
        let of_peer = taken.by_peer.get(&peer).copied().unwrap_or_default();
        if of_peer >= self.0.most_per_peer {
            return Err(Full::Peer);
        }
        taken.all += 1;
        taken.by_peer.insert(peer, of_peer + 1);
        drop(taken);
        Ok(ConnectionSlot { slots: self.clone(), peer })
    }

    /// The number of slots taken.
    pub fn taken(&self) -> u32 {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, TakenSlots> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.all -= 1;
        if let Some(of_peer) = taken.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.by_peer.remove(&self.peer);
            }
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

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_dropped_slot_is_free_again() {
        let slots = ConnectionSlots::new(3, 2);
        let first = slots.take(ip("192.0.2.1")).unwrap();
        let second = slots.take(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(slots.take(ip("192.0.2.1")).err(), Some(Full::Peer));
        let third = slots.take(ip("192.0.2.2")).unwrap();
        assert_eq!(slots.take(ip("192.0.2.3")).err(), Some(Full::All));
        assert_eq!(slots.taken(), 3);
        drop((first, third));
        assert_eq!(slots.lock().by_peer.len(), 1);
        let _first = slots.take(ip("192.0.2.1")).unwrap();
        drop(second);
        assert_eq!(slots.taken(), 1);
    }

    #[test]
    fn a_64_of_ipv6_is_one_address() {
        let slots = ConnectionSlots::new(9, 1);
        let _slot = slots.take(ip("2001:db8:1:2::1")).unwrap();
        assert_eq!(slots.take(ip("2001:db8:1:2:ffff::9")).err(), Some(Full::Peer));
        assert!(slots.take(ip("2001:db8:1:3::1")).is_ok());
    }
}
