//! What the rules know from user agents, cached. Parsing one costs more than all rules together, and few differ.

use std::collections::HashMap;

use crate::detection::Context;
use crate::model::activity::Activity;
use crate::session::device;

/// The most cached user agents; beyond it the cache is cleared.
const MOST: usize = 1_000;

/// The parsed user agents.
#[derive(Default)]
pub(in crate::session) struct Agents(HashMap<String, Context>);

impl Agents {
    /// The context of an activity for the rules. User agents are parsed for sessions only, because
    /// no other activity uses them.
    pub fn context(&mut self, activity: &Activity, device_is_trusted: bool) -> Context {
        let told = activity.user_agent.as_deref().filter(|_| activity.session.is_some());
        let read = told.map(|text| self.read(text)).unwrap_or_default();
        Context { device_is_trusted, ..read }
    }

    fn read(&mut self, user_agent: &str) -> Context {
        if let Some(known) = self.0.get(user_agent) {
            return known.clone();
        }
        let short = |name: String| name.chars().take(64).collect();
        let told = device::derive(user_agent);
        let (browser, system) = (told.browser_family.map(short), told.os_family.map(short));
        let context = Context { device_is_trusted: false, browser, system };
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(user_agent.to_owned(), context.clone());
        context
    }
}
