//! Networks, and the addresses of their users.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Place;
use super::words::{Words, number};

/// A network.
#[derive(Clone)]
pub struct Network {
    pub place: Option<Place>,
    pub net: IpNet,
    pub asn: u32,
    pub addresses: Addresses,
    /// Configured as a trusted egress of the platform.
    pub trusted: bool,
}

/// How a network assigns addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// Each user has a fixed address.
    Own,
    /// All users share one address.
    Shared,
    /// Each use has another address.
    Moving,
}

impl Network {
    /// Parses the words of a line: the name, and the properties.
    pub fn read(
        words: &mut Words,
        places: &BTreeMap<String, Place>,
    ) -> Result<(String, Network), String> {
        let name = words.next("a name")?.to_owned();
        let place = match words.next("a place")? {
            "nowhere" => None,
            place => Some(places.get(place).ok_or(format!("no place {place}"))?.clone()),
        };
        let net = words.parse("a network such as 192.0.2.0/24")?;
        let asn = words.option("as").map_or(Ok(0), number)?;
        let trusted = words.flag("trusted");
        let addresses = match (words.flag("shared"), words.flag("moving")) {
            (true, _) => Addresses::Shared,
            (_, true) => Addresses::Moving,
            _ => Addresses::Own,
        };
        Ok((name, Network { place, net, asn, addresses, trusted }))
    }

    /// The address of user `who`; a moving one also depends on `chance`.
    pub fn address(&self, who: u64, chance: u64) -> IpAddr {
        let n = match self.addresses {
            Addresses::Shared => 1,
            Addresses::Own => who,
            Addresses::Moving => chance,
        };
        match self.net {
            IpNet::V4(net) => {
                let size = 1u64 << (32 - net.prefix_len());
                let host = if size > 2 { 1 + n % (size - 2) } else { 0 };
                IpAddr::V4((u32::from(net.network()) + host as u32).into())
            }
            IpNet::V6(net) => {
                // Each user has a /64 if there is room.
                let room = 64u32.saturating_sub(net.prefix_len().into()).min(32);
                let subnet = u128::from(n % (1u64 << room)) << 64;
                let host = u128::from(n % 65_000) + 1;
                IpAddr::V6((u128::from(net.network()) + subnet + host).into())
            }
        }
    }
}
