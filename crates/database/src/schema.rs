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
        /// Telephone number, as the user wrote it.
        phone_number -> Nullable<Text>,
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
    /// Who changed access: one run of a program, or one action of an admin.
    tool_access_run (id) {
        /// Key; a later run has a larger one.
        id -> BigInt,
        /// The program.
        program -> Text,
        /// The user name of the admin who did it, where a person did.
        admin -> Nullable<Text>,
        /// The deployment's run, where it was part of one.
        run_id -> Nullable<Text>,
        /// Hex SHA-256 of the imported file, where it was an import.
        file_sha256 -> Nullable<Text>,
        /// When (UTC).
        happened_at -> Timestamp,
    }
}

diesel::table! {
    /// History: every change of a grant, wildcard or exclusion, appended and never updated.
    tool_access_event (user_id, tool_id, run, change) {
        /// Who changed it: `tool_access_run.id`.
        run -> BigInt,
        /// The user; 0 is everyone.
        user_id -> BigInt,
        /// The tool; below 0 is one that is gone, a `deleted_tool.id`.
        tool_id -> BigInt,
        /// `grant`, `revoke`, `exclude`, `include`, `grant-everyone` or `revoke-everyone`.
        change -> Text,
    }
}

diesel::table! {
    /// Tools that are gone, whose history stays.
    deleted_tool (id) {
        /// The key that its history has since, below 0.
        id -> BigInt,
        /// The name that it had.
        name -> Text,
        /// The tool that has its facts since, where it was merged into one: `tools.id`, or again a `deleted_tool.id`.
        merged_into -> Nullable<BigInt>,
        /// When (UTC).
        deleted_at -> Timestamp,
    }
}

diesel::table! {
    /// View: (grant or wildcard) and no exclusion, on an active tool, for an active user.
    effective_tool_access (user_id, tool_id) {
        /// The user.
        user_id -> BigInt,
        /// The tool.
        tool_id -> BigInt,
        /// Its name.
        tool_name -> Text,
        /// Its description.
        tool_description -> Text,
        /// Its route.
        tool_route -> Text,
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
    /// What was applied to this database, beside diesel's own table.
    migration_ledger (version) {
        /// Which migration.
        version -> Text,
        /// Its full name.
        name -> Text,
        /// Hex SHA-256 of its `up.sql` when it was applied, with line endings normalised.
        up_sha256 -> Text,
        /// When it was applied, or begun where it did not end (UTC).
        applied_at -> Timestamp,
        /// How long it took, in milliseconds, where that is known.
        duration_ms -> Nullable<BigInt>,
        /// The program and build that applied it.
        applied_by -> Text,
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

diesel::table! {
    /// History: what was done to users, appended and never updated.
    user_event (id) {
        /// Key; a later event has a larger one.
        id -> BigInt,
        /// When (UTC).
        happened_at -> Timestamp,
        /// The user name of the admin or user who did it, or the program.
        author -> Text,
        /// The user to whom it was done.
        user_id -> BigInt,
        /// `create`, `activate`, `deactivate`, `make-admin`, `remove-admin`, `reset-password`, `change-password` or `phone-number`.
        change -> Text,
        /// What was there before, where that can be put back: a telephone number.
        previous -> Nullable<Text>,
    }
}

diesel::joinable!(tool_access -> users (user_id));
diesel::joinable!(tool_access -> tools (tool_id));
diesel::joinable!(tool_access_everyone -> tools (tool_id));
diesel::joinable!(tool_access_exclusion -> users (user_id));
diesel::joinable!(tool_access_exclusion -> tools (tool_id));
diesel::joinable!(tool_access_event -> tool_access_run (run));
diesel::joinable!(effective_tool_access -> users (user_id));
diesel::joinable!(effective_tool_access -> tools (tool_id));
diesel::joinable!(user_session -> users (user_id));
diesel::joinable!(user_event -> users (user_id));

diesel::allow_tables_to_appear_in_same_query!(
    users,
    tools,
    tool_access,
    tool_access_everyone,
    tool_access_exclusion,
    tool_access_run,
    tool_access_event,
    deleted_tool,
    effective_tool_access,
    environment_stamp,
    user_session,
    user_event,
);
