//! How detection is set: rules, their modes and thresholds.

use chrono::Duration;
use ipnet::IpNet;

numbered! {
    /// What a rule does with what it finds. `Shadow` keeps it without telling anybody.
    Mode { Off = 1, Shadow = 2, Alert = 3 }
}

/// Many of a kind in a short time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    pub mode: Mode,
    /// So many are a finding: 1 to 100.
    pub count: usize,
    /// Within this time, over 0.
    pub within: Duration,
}

/// A country in which the user was not seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewCountry {
    pub mode: Mode,
    /// A country counts as known for so long after the last time.
    pub baseline: Duration,
}

/// Two places that nobody reaches in the time between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Travel {
    pub mode: Mode,
    /// In km/h: faster is a finding. An airliner cruises at about 900.
    pub speed: f64,
    /// In km: nearer is no travel, whatever the speed.
    pub distance: f64,
    /// In km: how far off either place may be. Places from addresses are rarely nearer than a city; 50 is
    /// our choice, not a measurement.
    pub accuracy: f64,
}

/// What all rules go by.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionSettings {
    /// Of one user.
    pub failed_logins: Burst,
    /// Of distinct users from one network.
    pub failed_logins_network: Burst,
    /// Sessions of one user.
    pub rapid_creation: Burst,
    pub new_country: NewCountry,
    pub impossible_travel: Travel,
    /// From a user's first activity: new countries in it are kept without telling anybody.
    pub learning_period: Duration,
    /// Findings from these, such as a VPN's way out, are kept without telling anybody.
    pub trusted_networks: Vec<IpNet>,
}

impl Default for DetectionSettings {
    fn default() -> DetectionSettings {
        DetectionSettings::with(Mode::Alert)
    }
}

impl DetectionSettings {
    /// No rule looks.
    pub fn off() -> DetectionSettings {
        DetectionSettings::with(Mode::Off)
    }

    fn with(mode: Mode) -> DetectionSettings {
        let burst = |count, within| Burst { mode, count, within };
        DetectionSettings {
            failed_logins: burst(10, Duration::minutes(15)),
            failed_logins_network: burst(15, Duration::hours(3)),
            rapid_creation: burst(10, Duration::hours(1)),
            new_country: NewCountry { mode, baseline: Duration::days(180) },
            impossible_travel: Travel { mode, speed: 900.0, distance: 100.0, accuracy: 50.0 },
            learning_period: Duration::days(7),
            trusted_networks: Vec::new(),
        }
    }
}
