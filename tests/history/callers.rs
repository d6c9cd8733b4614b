//! The callers: each makes one call after another, chosen by the seed.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tonic::transport::Channel;

use crate::call::Call;
use crate::directory::Known;
use crate::keys;
use crate::make::{self, Kind};
use crate::pause;
use crate::record::{How, Outcome, What};
use crate::rng::Rng;
use crate::users::{FREE, LEFT_ALONE};
use crate::world::{REPLICAS, World};

/// Concurrent creates of one user, as in a burst of logins.
const CROWD: usize = 32;
/// Concurrent refreshes of one token.
const RIVALS: usize = 16;
/// After this many refreshes the first token is no longer a retry.
const REFRESHES: usize = 2;
/// The age at which a session that was left alone is validated: an idle timeout of 2 s, a flush and the leeway of the
/// check have passed, and it is swept soon.
const LATE: Range<Duration> = Duration::from_millis(4500)..Duration::from_secs(9);

/// Makes calls until the run ends.
pub async fn run(world: Arc<World>, caller: u32) {
    let channels: Vec<Channel> = world.replicas.iter().map(|replica| replica.channel()).collect();
    for step in 0.. {
        if world.is_over() {
            return;
        }
        let mut rng = Rng::of(world.seed, [u64::from(caller), step]);
        let caller = Caller { world: &world, number: caller, channels: &channels };
        match rng.below(1000) {
            0..8 => caller.crowd(&mut rng).await,
            8..14 => caller.rivals(&mut rng).await,
            14..44 => caller.probe(&mut rng).await,
            44..50 => caller.thief(&mut rng).await,
            980.. => caller.late(&mut rng).await,
            _ => caller.one(&mut rng).await,
        }
        pause(Duration::from_millis(rng.between(0, 4))).await;
    }
}

struct Caller<'a> {
    world: &'a World,
    number: u32,
    channels: &'a [Channel],
}

impl Caller<'_> {
    /// Makes one call; if its outcome is unknown, repeats it, perhaps on another replica.
    async fn one(&self, rng: &mut Rng) {
        let (kind, who) = (make::kind(rng), make::user(rng));
        let (replica, again, retries) = (self.home(rng), rng.below(REPLICAS), rng.chance(70));
        let Some(mut call) = make::call(kind, who, &self.world.directory, rng) else { return };
        if !call.foreign && rng.chance(6) {
            call.role = Some(self.world.keys.role(rng));
        }
        let outcome = self.send(replica, &call).await;
        if retries && matches!(outcome, Outcome::Unknown(_)) {
            self.send(again, &call).await;
        }
        if matches!((&call.what, &outcome), (What::Terminate { .. }, Outcome::Ok(_))) {
            self.look_at_once(&call, replica, again, rng).await;
        }
    }

    /// Validates a session that was just ended, on the same replica, or on another one against the database.
    async fn look_at_once(&self, ended: &Call, here: usize, elsewhere: usize, rng: &mut Rng) {
        let What::Terminate { session } = ended.what else { return };
        let Some(known) = self.world.directory.find(ended.who, session) else { return };
        let newest = known.tokens.last().expect("every session came with tokens");
        let (replica, how) = *rng.pick(&[(here, How::Default), (elsewhere, How::Strong)]);
        let call = make::validate(ended.who, &known, newest, how);
        self.send(replica, &call).await;
    }

    /// A replica, mostly the same for a caller, so that a stuck replica does not block all callers.
    fn home(&self, rng: &mut Rng) -> usize {
        if rng.chance(75) { self.number as usize % REPLICAS } else { rng.below(REPLICAS) }
    }

    /// Makes concurrent creates of one user on one replica.
    async fn crowd(&self, rng: &mut Rng) {
        let (who, replica) = (make::user(rng), self.home(rng));
        let calls: Vec<_> =
            (0..CROWD).map(|_| make::create(who, &self.world.directory, rng)).collect();
        join_all(calls.iter().map(|call| self.send(replica, call))).await;
    }

    /// Makes concurrent refreshes of one token on any replicas.
    async fn rivals(&self, rng: &mut Rng) {
        let who = make::user(rng);
        let directory = &self.world.directory;
        let Some(call) = make::call(Kind::Refresh, who, directory, rng) else { return };
        let places: Vec<usize> = (0..RIVALS).map(|_| rng.below(REPLICAS)).collect();
        join_all(places.iter().map(|replica| self.send(*replica, &call))).await;
    }

    /// Logs in, refreshes a few times, and then replays the first token, as a thief does.
    async fn thief(&self, rng: &mut Rng) {
        let (who, replica, directory) = (FREE, self.home(rng), &self.world.directory);
        let mut outcome = self.send(replica, &make::create(who, directory, rng)).await;
        for refreshes in 0..=REFRESHES {
            let Outcome::Ok(answer) = &outcome else { return };
            let Some(id) = answer.session.as_ref().map(|session| session.id) else { return };
            let Some(known) = directory.find(who, id) else { return };
            let newest = known.tokens.last().expect("every session came with tokens");
            let presented = if refreshes < REFRESHES { newest } else { &known.tokens[0] };
            outcome = self.send(replica, &make::refresh(who, &known, presented)).await;
        }
    }

    /// Creates a session that is left alone, or validates one whose deadlines have passed.
    async fn late(&self, rng: &mut Rng) {
        let (who, replica, directory) = (LEFT_ALONE, self.home(rng), &self.world.directory);
        if rng.chance(30) {
            self.send(replica, &make::create(who, directory, rng)).await;
        }
        let Some(known) = directory.aged(who, LATE, rng) else { return };
        let newest = known.tokens.last().expect("every session came with tokens");
        self.send(replica, &make::validate(who, &known, newest, How::Default)).await;
    }

    /// Probes the permissions of a role, or a path.
    async fn probe(&self, rng: &mut Rng) {
        let call = keys::probe(&self.world.keys, &self.world.directory, rng);
        self.send(self.home(rng), &call).await;
    }

    async fn send(&self, replica: usize, call: &Call) -> Outcome {
        let channel = self.channels[replica].clone();
        self.world.call(self.number, replica, channel, call).await
    }
}

/// The newest sessions of each user, which are validated at the end.
const LOOKED_AT: usize = 30;
/// Concurrent validations at the end.
const ABREAST: usize = 32;

/// Validates the last token of the newest sessions on every replica, from the cache and against the database.
pub async fn look_at_all(world: &Arc<World>, caller: u32) {
    let all: Vec<(usize, Known)> = world.directory.newest(LOOKED_AT);
    let channels: Vec<Channel> = world.replicas.iter().map(|replica| replica.channel()).collect();
    let looking = (0..ABREAST).map(async |part| {
        for (who, known) in all.iter().skip(part).step_by(ABREAST) {
            let newest = known.tokens.last().expect("every session came with tokens");
            for (replica, channel) in channels.iter().enumerate() {
                for how in [How::Default, How::Strong] {
                    let call = make::validate(*who, known, newest, how);
                    world.call(caller, replica, channel.clone(), &call).await;
                }
            }
        }
    });
    join_all(looking).await;
}
