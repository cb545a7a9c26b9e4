//! Facts to put into a test's database. Each function returns the new row's key.

use diesel::prelude::*;
use omnitool_database::{
    AnyConnection,
    schema::{tool_access, tool_access_everyone, tool_access_exclusion, tools, users},
};

/// An active user without admin rights and without a usable password.
///
/// # Panics
///
/// Where the row cannot be inserted.
pub fn user(conn: &mut AnyConnection, username: &str) -> i64 {
    diesel::insert_into(users::table)
        .values((users::username.eq(username), users::password_hash.eq("!")))
        .returning(users::id)
        .get_result(conn)
        .unwrap()
}

/// An active tool that is no default.
///
/// # Panics
///
/// Where the row cannot be inserted.
pub fn tool(conn: &mut AnyConnection, name: &str) -> i64 {
    let route = format!("/{}", name.to_lowercase().replace(' ', "_"));
    diesel::insert_into(tools::table)
        .values((tools::name.eq(name), tools::route.eq(route)))
        .returning(tools::id)
        .get_result(conn)
        .unwrap()
}

/// A grant by an admin.
///
/// # Panics
///
/// Where the row cannot be inserted.
pub fn grant(conn: &mut AnyConnection, user_id: i64, tool_id: i64) {
    diesel::insert_into(tool_access::table)
        .values((
            tool_access::user_id.eq(user_id),
            tool_access::tool_id.eq(tool_id),
            tool_access::origin.eq("admin"),
        ))
        .execute(conn)
        .unwrap();
}

/// A wildcard by an admin.
///
/// # Panics
///
/// Where the row cannot be inserted.
pub fn everyone(conn: &mut AnyConnection, tool_id: i64) {
    diesel::insert_into(tool_access_everyone::table)
        .values((
            tool_access_everyone::tool_id.eq(tool_id),
            tool_access_everyone::origin.eq("admin"),
        ))
        .execute(conn)
        .unwrap();
}

/// An exclusion by an admin.
///
/// # Panics
///
/// Where the row cannot be inserted.
pub fn exclude(conn: &mut AnyConnection, user_id: i64, tool_id: i64) {
    diesel::insert_into(tool_access_exclusion::table)
        .values((
            tool_access_exclusion::user_id.eq(user_id),
            tool_access_exclusion::tool_id.eq(tool_id),
            tool_access_exclusion::origin.eq("admin"),
        ))
        .execute(conn)
        .unwrap();
}
