//! The tables as diesel declares them, in the column order of `migrations/`.

diesel::table! {
    user_sessions (tenant_id, user_id, session_id) {
        tenant_id -> Text,
        user_id -> Text,
        session_id -> Uuid,
        client_id -> Text,
        device_id -> Uuid,
        device_type -> SmallInt,
        device -> Jsonb,
        ip_address -> Nullable<Inet>,
        user_agent -> Nullable<Text>,
        location -> Nullable<Jsonb>,
        acr -> Nullable<Text>,
        amr -> Array<Text>,
        auth_time -> Timestamptz,
        audiences -> Array<Text>,
        metadata -> Jsonb,
        created_at -> Timestamptz,
        last_active_at -> Timestamptz,
        idle_timeout -> Nullable<Interval>,
        absolute_expires_at -> Timestamptz,
        sweep_at -> Timestamptz,
        state -> SmallInt,
        end_reason -> Nullable<SmallInt>,
        ended_at -> Nullable<Timestamptz>,
        ended_by -> Nullable<Text>,
        end_note -> Nullable<Text>,
        generation -> Integer,
        generation_key_id -> SmallInt,
        rotated_at -> Timestamptz,
        confirmed_generation -> Integer,
        nonce -> Binary,
        renewed_at -> Nullable<Timestamptz>,
        min_generation -> Integer,
        step_up_at -> Nullable<Timestamptz>,
        scope -> Nullable<Text>,
        claims -> Nullable<Jsonb>,
    }
}

diesel::table! {
    /// Without `xid`, for which diesel has no type (`store/feed.rs`).
    session_activities (tenant_id, user_id, occurred_at, activity_id) {
        tenant_id -> Text,
        user_id -> Text,
        occurred_at -> Timestamptz,
        activity_id -> Uuid,
        session_id -> Nullable<Uuid>,
        device_id -> Nullable<Uuid>,
        alert_id -> Nullable<Uuid>,
        kind -> SmallInt,
        end_reason -> Nullable<SmallInt>,
        generation -> Nullable<Integer>,
        principal -> Text,
        ip_address -> Nullable<Inet>,
        user_agent -> Nullable<Text>,
        client_id -> Nullable<Text>,
        device_type -> Nullable<SmallInt>,
        location -> Nullable<Jsonb>,
        name -> Nullable<Text>,
        endpoint -> Nullable<Text>,
        method -> Nullable<Text>,
        success -> Nullable<Bool>,
        error_code -> Nullable<Text>,
        latency -> Nullable<Interval>,
        metadata -> Nullable<Jsonb>,
        change -> Nullable<Jsonb>,
    }
}

diesel::table! {
    security_alerts (tenant_id, user_id, alert_id) {
        tenant_id -> Text,
        user_id -> Text,
        alert_id -> Uuid,
        session_id -> Nullable<Uuid>,
        device_id -> Nullable<Uuid>,
        category -> SmallInt,
        severity -> SmallInt,
        rule_id -> Text,
        rule_version -> Integer,
        title -> Text,
        description -> Text,
        evidence -> Jsonb,
        dedup_key -> Text,
        occurrence_count -> Integer,
        first_seen_at -> Timestamptz,
        last_seen_at -> Timestamptz,
        action_taken -> SmallInt,
        state -> SmallInt,
        acknowledged_by -> Nullable<Text>,
        acknowledged_at -> Nullable<Timestamptz>,
        resolved_by -> Nullable<Text>,
        resolved_at -> Nullable<Timestamptz>,
        resolution -> Nullable<SmallInt>,
        notes -> Jsonb,
        revision -> Integer,
        dedup_until -> Nullable<Timestamptz>,
        suppression -> SmallInt,
        suppressed_until -> Nullable<Timestamptz>,
        raised_by -> Text,
        assignee -> Nullable<Text>,
    }
}

diesel::table! {
    signing_keys (kid) {
        kid -> Text,
        purpose -> SmallInt,
        key_number -> SmallInt,
        algorithm -> Text,
        public_key -> Binary,
        sealed_private_key -> Binary,
        created_at -> Timestamptz,
        signs_from -> Nullable<Timestamptz>,
        retires_at -> Nullable<Timestamptz>,
        removed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    requests (tenant_id, request_id) {
        tenant_id -> Text,
        request_id -> Uuid,
        fingerprint -> Binary,
        user_id -> Text,
        subject_id -> Nullable<Uuid>,
        related_ids -> Array<Uuid>,
        created_at -> Timestamptz,
        done_count -> Nullable<BigInt>,
        complete -> Nullable<Bool>,
    }
}

diesel::table! {
    devices (tenant_id, user_id, device_id) {
        tenant_id -> Text,
        user_id -> Text,
        device_id -> Uuid,
        device_type -> SmallInt,
        details -> Jsonb,
        described_at -> Timestamptz,
        display_name -> Nullable<Text>,
        chosen_type -> Nullable<SmallInt>,
        trusted -> Bool,
        first_seen_at -> Timestamptz,
        first_seen_ip -> Nullable<Inet>,
        first_seen_location -> Nullable<Jsonb>,
        last_seen_at -> Timestamptz,
        last_seen_ip -> Nullable<Inet>,
        last_seen_location -> Nullable<Jsonb>,
        revoked_at -> Nullable<Timestamptz>,
        revision -> Integer,
    }
}

diesel::table! {
    policies (tenant_id, client_id) {
        tenant_id -> Text,
        client_id -> Text,
        preset -> Nullable<SmallInt>,
        idle_timeout -> Nullable<Interval>,
        absolute_timeout -> Nullable<Interval>,
        access_token_ttl -> Nullable<Interval>,
        refresh_grace -> Nullable<Interval>,
        lost_response_window -> Nullable<Interval>,
        user_max -> Nullable<Integer>,
        user_on_limit -> Nullable<SmallInt>,
        client_max -> Nullable<Integer>,
        client_on_limit -> Nullable<SmallInt>,
        device_type_limits -> Nullable<Jsonb>,
        acr_levels -> Nullable<Array<Text>>,
        revision -> BigInt,
        updated_at -> Nullable<Timestamptz>,
        updated_by -> Nullable<Text>,
        apply_at -> Nullable<Timestamptz>,
        detection -> Nullable<Jsonb>,
    }
}

diesel::table! {
    principals (name) {
        name -> Text,
        roles -> Array<Text>,
        scopes -> Array<Text>,
        tenants -> Array<Text>,
        audiences -> Array<Text>,
        accepts_certificates -> Bool,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    api_keys (key_id) {
        key_id -> Text,
        principal -> Text,
        secret_sha256 -> Binary,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
    }
}
