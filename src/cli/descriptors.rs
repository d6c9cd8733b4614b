//! The limit of open files and sockets.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors besides client connections: database connections, files, the HTTP port.
const OTHERS: u64 = 1_500;

/// Raises the limit to the hard limit (`ulimit -Hn`), which is often above the soft limit, and warns if it is too low:
/// without descriptors, connections wait although slots are free.
pub fn raise(connections: u32) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A sandbox, for example, may forbid it. The limit then stays as it is.
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
