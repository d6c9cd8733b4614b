//! Derives a device from a user agent: its type, its operating system, its browser or app. Pure but
//! for the table of patterns, which is built once. What the user agent does not state stays
//! unknown.

pub mod identity;

mod apple;
mod in_app;
mod kind;
mod model;
mod names;
mod table;

use crate::model::device::DeviceType;

/// The derived device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedDevice {
    pub kind: DeviceType,
    /// `iOS 18`, or `Windows` if the version is unknown.
    pub os: Option<String>,
    /// `Chrome 131`; for an app or a program, its own name.
    pub browser: Option<String>,
    /// `SM-S918B`; most browsers state no model.
    pub model: Option<String>,
    /// `os` without its version.
    pub os_family: Option<String>,
    /// `browser` without its version.
    pub browser_family: Option<String>,
}

/// Builds the table of patterns at start, so that no request has to.
pub fn prepare() {
    table::load();
}

/// Reads a user agent of any content. Costs microseconds; the patterns run in linear time.
pub fn derive(user_agent: &str) -> DerivedDevice {
    let lower = user_agent.to_lowercase();
    let system = names::system(user_agent, &lower);
    let browser = names::browser(user_agent, &lower, system.as_ref(), kind::is_bot(&lower));
    let kind = kind::of(user_agent, &lower, system.as_ref(), browser.as_ref());
    let system = safari_tells(system, browser.as_ref());
    DerivedDevice {
        kind,
        // A crawler only claims to be a device.
        model: model::model(user_agent).filter(|_| kind != DeviceType::Bot),
        os: system.as_ref().map(names::Name::text),
        browser: browser.as_ref().map(names::Name::text),
        os_family: system.map(|system| system.family),
        browser_family: browser.map(|browser| browser.family),
    }
}

/// Since iOS 26 Safari states a frozen system version, 18, but its own version equals that of the system.
fn safari_tells(system: Option<names::Name>, browser: Option<&names::Name>) -> Option<names::Name> {
    let number =
        |name: &names::Name| name.major.as_ref().and_then(|major| major.parse::<u32>().ok());
    let mut system = system?;
    if let Some(browser) = browser
        && system.family == "iOS"
        && browser.family == "Safari"
        && number(browser) > number(&system)
    {
        system.major.clone_from(&browser.major);
    }
    Some(system)
}

#[cfg(test)]
mod tests;
