//! Statements as static text, so that each connection prepares them once.
//!
//! Diesel caches prepared statements by type, but not for updates, upserts or `sql_query`
//! (`diesel::query_builder::QueryFragment::is_safe_to_cache_prepared`); a custom type with a static id is cached.

/// Declares a query type with its parameters and result columns. Each `?` in the text takes the
/// next field. In a `named` one, `$field` takes that field.
macro_rules! statement {
    (
        $(#[$doc:meta])*
        named $name:ident { $($field:ident: $rust:ty as $sql:ty),* $(,)? } -> $result:ty, $text:expr
    ) => {
        $(#[$doc])*
        struct $name { $($field: $rust,)* }

        statement!(@query [] $name, $name, $result);

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::QueryResult<()> {
                let mut text: &str = $text;
                while let Some((before, rest)) = text.split_once('$') {
                    out.push_sql(before);
                    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
                    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                    match &rest[..end] {
                        $(stringify!($field) => out.push_bind_param::<$sql, _>(&self.$field)?,)*
                        other => unreachable!("no parameter is named {other}"),
                    }
                    text = &rest[end..];
                }
                out.push_sql(text);
                Ok(())
            }
        }
    };
    (@query [$($life:lifetime)?] $name:ty, $static:ty, $result:ty) => {
        impl $(<$life>)? diesel::query_builder::QueryId for $name {
            type QueryId = $static;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl $(<$life>)? diesel::query_builder::Query for $name {
            type SqlType = $result;
        }
    };
    (
        $(#[$doc:meta])*
        $name:ident { $($field:ident: $rust:ty as $sql:ty),* $(,)? } -> $result:ty, $text:expr
    ) => {
        $(#[$doc])*
        struct $name<'a> { $($field: $rust,)* lifetime: std::marker::PhantomData<&'a ()> }

        impl<'a> $name<'a> {
            fn new($($field: $rust),*) -> Self {
                Self { $($field,)* lifetime: std::marker::PhantomData }
            }
        }

        statement!(@query ['a] $name<'a>, $name<'static>, $result);

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name<'_> {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::QueryResult<()> {
                let mut text = $text.split('?');
                out.push_sql(text.next().unwrap_or_default());
                $(
                    out.push_bind_param::<$sql, _>(&self.$field)?;
                    out.push_sql(text.next().expect("one `?` per parameter"));
                )*
                assert!(text.next().is_none(), "one parameter per `?`");
                Ok(())
            }
        }
    };
}

/// The columns of `user_sessions`, in the order of `SessionRow`.
macro_rules! session_columns {
    () => {
        "tenant_id, user_id, session_id, client_id, device_id, device_type, device, ip_address, \
         user_agent, location, acr, amr, auth_time, audiences, metadata, created_at, \
         last_active_at, idle_timeout, absolute_expires_at, sweep_at, state, end_reason, \
         ended_at, ended_by, end_note, generation, generation_key_id, rotated_at, \
         confirmed_generation, nonce, renewed_at, min_generation, step_up_at, scope, claims"
    };
}

/// The columns of `security_alerts`, in the order of `AlertRow`.
macro_rules! alert_columns {
    () => {
        "tenant_id, user_id, alert_id, session_id, device_id, category, severity, rule_id, \
         rule_version, title, description, evidence, dedup_key, occurrence_count, first_seen_at, \
         last_seen_at, action_taken, state, acknowledged_by, acknowledged_at, resolved_by, \
         resolved_at, resolution, notes, revision, dedup_until, suppression, suppressed_until, \
         raised_by, assignee"
    };
}

/// The columns of `devices`, in the order of `DeviceRow`.
macro_rules! device_columns {
    () => {
        "tenant_id, user_id, device_id, device_type, details, described_at, display_name, \
         chosen_type, trusted, first_seen_at, first_seen_ip, first_seen_location, last_seen_at, \
         last_seen_ip, last_seen_location, revoked_at, revision"
    };
}

/// The columns of `session_activities`, in the order of `ActivityRow`.
/// Another expression may stand for the alert.
macro_rules! activity_columns {
    () => {
        activity_columns!("alert_id")
    };
    ($alert:literal) => {
        concat!(
            "tenant_id, user_id, occurred_at, activity_id, session_id, device_id, ",
            $alert,
            ", kind, end_reason, generation, principal, ip_address, user_agent, client_id, \
             device_type, location, name, endpoint, method, success, error_code, latency, metadata, \
             change"
        )
    };
}

/// The columns of `policies`, in the order of `PolicyRow`.
macro_rules! policy_columns {
    () => {
        "tenant_id, client_id, preset, idle_timeout, absolute_timeout, access_token_ttl, \
         refresh_grace, lost_response_window, user_max, user_on_limit, client_max, \
         client_on_limit, device_type_limits, acr_levels, revision, updated_at, updated_by, apply_at, \
         detection"
    };
}

/// An expression: the timeline as 8 hexadecimal digits, or empty on a server that takes no writes.
macro_rules! timeline {
    () => {
        "CASE WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' THEN '' \
         ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END"
    };
}
