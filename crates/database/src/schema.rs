//! The tables as diesel sees them. A test proves that both dialects' migrations make exactly these.

diesel::table! {
    /// People who can log in.
    users (id) {
        /// Key.
        id -> BigInt,
        /// Unique name, the key by which exports and other environments know the user.
        username -> Text,
        /// Contact address, unique where given.
        email -> Nullable<Text>,
        /// Argon2 hash in PHC format.
        password_hash -> Text,
        /// Whether the user may administer users and access.
        is_admin -> Bool,
        /// Whether the user may log in and use anything at all.
        is_active -> Bool,
        /// When the user was created (UTC).
        created_at -> Timestamp,
    }
}

diesel::table! {
    /// The internal tools that `data/tools.toml` defines.
    tools (id) {
        /// Key.
        id -> BigInt,
        /// Unique name, the key by which definitions and exports know the tool.
        name -> Text,
        /// One sentence for the dashboard.
        description -> Text,
        /// Path under the app's address.
        route -> Text,
        /// Whether new users are granted it.
        is_default -> Bool,
        /// Whether anybody may use it.
        is_active -> Bool,
        /// When the tool was created (UTC).
        created_at -> Timestamp,
    }
}

diesel::table! {
    /// Grants: this user may use this tool.
    tool_access (user_id, tool_id) {
        /// The user.
        user_id -> BigInt,
        /// The tool.
        tool_id -> BigInt,
        /// When it was granted (UTC).
        granted_at -> Timestamp,
        /// `default`, `import` or `admin`.
        origin -> Text,
    }
}

diesel::table! {
    /// Wildcards: everyone may use this tool.
    tool_access_everyone (tool_id) {
        /// The tool.
        tool_id -> BigInt,
        /// When it was granted (UTC).
        granted_at -> Timestamp,
        /// `default`, `import` or `admin`.
        origin -> Text,
    }
}

diesel::table! {
    /// Exclusions: this user must not use this tool, whatever else holds.
    tool_access_exclusion (user_id, tool_id) {
        /// The user.
        user_id -> BigInt,
        /// The tool.
        tool_id -> BigInt,
        /// When the user was excluded (UTC).
        excluded_at -> Timestamp,
        /// `default`, `import` or `admin`.
        origin -> Text,
        /// Why, for people.
        reason -> Nullable<Text>,
    }
}

diesel::table! {
    /// View: (grant or wildcard) and no exclusion, on an active tool, for an active user.
    effective_tool_access (user_id, tool_id) {
        /// The user.
        user_id -> BigInt,
        /// The tool.
        tool_id -> BigInt,
    }
}

diesel::table! {
    /// One row: which environment this database is.
    environment_stamp (id) {
        /// Always 1.
        id -> BigInt,
        /// `local`, `staging` or `production`.
        environment -> Text,
        /// When it was stamped (UTC).
        stamped_at -> Timestamp,
    }
}

diesel::table! {
    /// Logins of the app.
    user_session (token_sha256) {
        /// Hex SHA-256 of the token in the cookie.
        token_sha256 -> Text,
        /// Who is logged in.
        user_id -> BigInt,
        /// When (UTC).
        created_at -> Timestamp,
        /// Until when (UTC).
        expires_at -> Timestamp,
    }
}

diesel::joinable!(tool_access -> users (user_id));
diesel::joinable!(tool_access -> tools (tool_id));
diesel::joinable!(tool_access_everyone -> tools (tool_id));
diesel::joinable!(tool_access_exclusion -> users (user_id));
diesel::joinable!(tool_access_exclusion -> tools (tool_id));
diesel::joinable!(effective_tool_access -> users (user_id));
diesel::joinable!(effective_tool_access -> tools (tool_id));
diesel::joinable!(user_session -> users (user_id));

diesel::allow_tables_to_appear_in_same_query!(
    users,
    tools,
    tool_access,
    tool_access_everyone,
    tool_access_exclusion,
    effective_tool_access,
    environment_stamp,
    user_session,
);
