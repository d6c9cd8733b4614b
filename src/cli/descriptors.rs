//! How many files and sockets the process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What it opens besides connections of callers: those to the database, files, the HTTP port.
const OTHERS: u64 = 1_500;

/// Takes as many as the system allows, which is often more than what it gives by itself (`ulimit -Hn`). Without
/// enough of them connections wait although there are places for them.
pub fn raise(connections: u32) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Forbidden by a sandbox, for example: then it is as it was.
    let _ = setrlimit(Resource::Nofile, limit);
    let needed = u64::from(connections) + OTHERS;
    if let Some(open) = getrlimit(Resource::Nofile).current
        && open < needed
    {
        tracing::warn!(
            open,
            needed,
            "the limit of open files is too low for --max-connections: raise it (LimitNOFILE, ulimit -Hn)"
        );
    }
}
