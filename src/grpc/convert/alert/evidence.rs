//! The evidence of alerts.

use chrono::Duration;

use crate::grpc::convert::time::{duration_to_pb, to_pb as time};
use crate::grpc::pb;
use crate::grpc::pb::evidence::Typed;
use crate::model::evidence::{Burst, Evidence, GeoPoint, RefreshReuse, SeenClient, TypedEvidence};

/// Evidence as a protobuf message.
pub fn to_pb(evidence: Evidence) -> pb::Evidence {
    pb::Evidence { values: evidence.values, typed: evidence.typed.map(typed) }
}

fn typed(typed: TypedEvidence) -> Typed {
    match typed {
        TypedEvidence::RefreshReuse(evidence) => Typed::RefreshReuse(reuse(evidence)),
        TypedEvidence::DataRegression { presented_generation, current_generation } => {
            Typed::DataRegression(pb::DataRegressionEvidence {
                presented_generation,
                current_generation,
            })
        }
        TypedEvidence::ImpossibleTravel(travel) => {
            Typed::ImpossibleTravel(pb::ImpossibleTravelEvidence {
                from: Some(point(&travel.from)),
                to: Some(point(&travel.to)),
                distance_km: travel.distance,
                certain_distance_km: travel.certain_distance,
                speed_kmh: travel.speed,
                speed_threshold_kmh: travel.speed_threshold,
                distance_threshold_km: travel.distance_threshold,
            })
        }
        TypedEvidence::NewCountry { country, known, baseline_seconds } => {
            Typed::NewCountry(pb::NewCountryEvidence {
                country_code: country,
                known_country_codes: known,
                baseline: Some(seconds(baseline_seconds)),
            })
        }
        TypedEvidence::NewDevice { device, known } => Typed::NewDevice(pb::NewDeviceEvidence {
            device_id: device.to_string(),
            known_count: known,
        }),
        TypedEvidence::SessionHijack { before, after } => {
            Typed::SessionHijack(pb::SessionHijackEvidence {
                before: Some(client(before)),
                after: Some(client(after)),
            })
        }
        TypedEvidence::SimultaneousCountries { countries, threshold, window_seconds } => {
            Typed::SimultaneousCountries(pb::SimultaneousCountriesEvidence {
                country_codes: countries,
                threshold,
                window: Some(seconds(window_seconds)),
            })
        }
        TypedEvidence::DormantAccount { last_seen, threshold_seconds } => {
            Typed::DormantAccount(pb::DormantAccountEvidence {
                last_seen_time: Some(time(last_seen)),
                threshold: Some(seconds(threshold_seconds)),
            })
        }
        TypedEvidence::Burst(evidence) => Typed::Burst(burst(evidence)),
    }
}

fn reuse(evidence: RefreshReuse) -> pb::RefreshReuseEvidence {
    pb::RefreshReuseEvidence {
        presented_generation: evidence.presented_generation,
        current_generation: evidence.current_generation,
        rotated_time: Some(time(evidence.rotated_at)),
        presenter_ip_address: evidence.presenter_ip.unwrap_or_default(),
        presenter_user_agent: evidence.presenter_user_agent.unwrap_or_default(),
        session_ip_address: evidence.session_ip.unwrap_or_default(),
        session_user_agent: evidence.session_user_agent.unwrap_or_default(),
    }
}

fn point(place: &GeoPoint) -> pb::GeoPoint {
    let (latitude, longitude) = place.coordinates;
    pb::GeoPoint { latitude, longitude, time: Some(time(place.at)) }
}

fn client(client: SeenClient) -> pb::SeenClient {
    pb::SeenClient {
        ip_address: client.ip.to_string(),
        asn: client.asn,
        browser: client.browser.unwrap_or_default(),
        os: client.system.unwrap_or_default(),
        time: Some(time(client.at)),
    }
}

fn burst(burst: Burst) -> pb::BurstEvidence {
    pb::BurstEvidence {
        count: burst.count,
        threshold: burst.threshold,
        window: Some(seconds(burst.window_seconds)),
        first_time: Some(time(burst.first_at)),
        network: burst.network.unwrap_or_default(),
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    duration_to_pb(Duration::seconds(seconds))
}
