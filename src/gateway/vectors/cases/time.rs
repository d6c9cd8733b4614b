//! The cases about time: how fresh the verifier's revocations are, and which clock it uses.

use serde_json::{Value, json};

use super::{accepted, asked, begun, below, case, judged, open, revocation, sent, stale};
use crate::gateway::vectors::tokens::SESSION;

/// Silence, heartbeats, resyncs.
pub(super) fn freshness() -> Vec<Value> {
    let partial = json!({ "at_ms": 20, "message": {
        "resync": true, "revocations": [revocation("SESSION", SESSION)],
    } });
    vec![
        case(
            "nothing_received",
            "Before the first answer nothing is known.",
            vec![open(0), stale(10, "valid"), stale(10, "empty")],
        ),
        case(
            "half_a_list",
            "What is in force is known once checked_time is there.",
            vec![
                open(0),
                partial,
                stale(30, "other_session"),
                sent(40, 500, false, vec![]),
                accepted(50, "other_session"),
                asked(50, "valid"),
            ],
        ),
        // Counted from the request of the stream, since the answer may have been in flight for all of that time.
        case(
            "bound",
            "Silence for as long as the bound, and for longer.",
            vec![
                open(0),
                sent(20, 500, true, vec![]),
                accepted(1_000, "valid"),
                stale(1_001, "valid"),
            ],
        ),
        case(
            "heartbeat",
            "A heartbeat renews.",
            vec![
                open(0),
                sent(20, 500, true, vec![]),
                sent(900, 1_380, false, vec![]),
                accepted(1_500, "valid"),
                stale(2_000, "valid"),
            ],
        ),
        case(
            "arrives_later",
            "A revocation that comes with a heartbeat.",
            vec![
                open(0),
                sent(20, 500, true, vec![]),
                accepted(100, "valid"),
                sent(200, 690, false, vec![revocation("SESSION", SESSION)]),
                asked(200, "valid"),
                accepted(200, "other_session"),
            ],
        ),
        case(
            "resync",
            "A resync replaces all that was kept.",
            vec![
                open(0),
                sent(20, 500, true, vec![revocation("SESSION", SESSION)]),
                asked(100, "valid"),
                sent(
                    200,
                    690,
                    true,
                    vec![revocation("DEVICE", "0190c0de-0000-7000-8000-0000000000d2")],
                ),
                accepted(200, "valid"),
                asked(200, "other_device"),
            ],
        ),
        case(
            "twice",
            "One revocation may be sent twice, the higher generation counts.",
            vec![
                open(0),
                sent(20, 500, true, vec![below(3)]),
                sent(30, 510, false, vec![below(2)]),
                asked(100, "valid"),
                accepted(100, "generation_3"),
            ],
        ),
        case(
            "audience_and_revocation",
            "A refusal by itself comes before a revocation.",
            vec![
                open(0),
                sent(20, 500, true, vec![revocation("TENANT", "")]),
                judged(100, "other_audience", "refuse", "WRONG_AUDIENCE"),
                judged(100, "signature_of_another_token", "refuse", "SIGNATURE_INVALID"),
            ],
        ),
        case(
            "stale_before_all",
            "Who knows too little says nothing of a token.",
            vec![open(0), sent(20, 500, true, vec![]), stale(5_000, "signature_of_another_token")],
        ),
    ]
}

/// The verifier uses the service's time, never its own wall clock.
pub(super) fn clocks() -> Vec<Value> {
    let expired = |at_ms, token| judged(at_ms, token, "refuse", "TOKEN_EXPIRED");
    let beats = |from: u32, to: u32| {
        (from..to).step_by(500).map(|ms| sent(ms, i64::from(ms) + 480, false, vec![]))
    };
    let mut expiry = begun(vec![]);
    expiry.extend(beats(500, 2_000));
    // The stream was requested at 0 and named 0.5 s after issue: the tokens are 1.5 s older than the verifier's 0.
    expiry.extend([accepted(1_499, "expires_after_2_s"), expired(1_500, "expires_after_2_s")]);
    let forward = vec![
        open(0),
        sent(20, 500, true, vec![]),
        accepted(100, "valid"),
        sent(200, 299_999, false, vec![]),
        accepted(200, "valid"),
        expired(201, "valid"),
    ];
    let back = vec![
        open(0),
        sent(20, 500, true, vec![]),
        accepted(100, "valid"),
        sent(200, -60_000, false, vec![]),
        stale(200, "valid"),
        open(300),
        sent(320, -59_880, false, vec![]),
        asked(330, "valid"),
    ];
    let a_little_back = vec![
        open(0),
        sent(20, -5_000, true, vec![]),
        accepted(100, "valid"),
        accepted(100, "valid"),
    ];
    let future = vec![
        open(0),
        sent(20, 0, true, vec![]),
        accepted(100, "issued_5_s_later"),
        asked(100, "issued_6_s_later"),
        sent(900, 1_000, false, vec![]),
        accepted(1_000, "issued_6_s_later"),
    ];
    let second = vec![
        open(0),
        sent(20, 298_980, true, vec![]),
        accepted(900, "valid"),
        accepted(1_000, "valid"),
        sent(1_010, 299_990, false, vec![]),
        accepted(1_019, "valid"),
        expired(1_020, "valid"),
        accepted(1_020, "issued_5_s_later"),
    ];
    vec![
        case("expires", "A token expires at its exp, by the service's time.", expiry),
        case("expires_at_the_second", "exp itself is too late.", second),
        case("clock_forward", "The service's clock is set forward by 5 minutes.", forward),
        case(
            "clock_back",
            "It is set back by a minute: what was issued before is asked about.",
            back,
        ),
        case("clock_back_a_little", "A token from 5 s ahead passes.", a_little_back),
        case(
            "not_yet_valid",
            "nbf may be 5 s ahead; a token from further ahead is asked about.",
            future,
        ),
    ]
}
