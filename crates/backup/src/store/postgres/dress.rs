//! What belongs to a database's name and is in no dump of its content as we restore it: connection limit, grants on the
//! database, settings per database and role.

use diesel::{
    prelude::*,
    sql_types::{Bool, Nullable, Text},
};
use omnitool_database::AnyConnection;

use super::target::{literal, quoted};

/// Settings whose values are lists of names, which are written one by one; the same list as in `pg_dump`.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

#[derive(QueryableByName)]
struct Grant {
    /// None stands for everybody.
    #[diesel(sql_type = Nullable<Text>)]
    grantee: Option<String>,
    #[diesel(sql_type = Text)]
    privilege: String,
    #[diesel(sql_type = Bool)]
    may_grant: bool,
}

#[derive(QueryableByName)]
struct Setting {
    /// None stands for every role.
    #[diesel(sql_type = Nullable<Text>)]
    role: Option<String>,
    /// `name=value`.
    #[diesel(sql_type = Text)]
    setting: String,
}

#[derive(QueryableByName)]
struct Limit {
    #[diesel(sql_type = Text)]
    connection_limit: String,
    #[diesel(sql_type = Bool)]
    has_grants: bool,
    #[diesel(sql_type = Text)]
    owner: String,
}

/// The statements that make the database `to` like the database `from` in these respects.
pub(super) fn statements(
    conn: &mut AnyConnection,
    from: &str,
    to: &str,
) -> QueryResult<Vec<String>> {
    let database = quoted(to);
    let Limit { connection_limit, has_grants, owner } = diesel::sql_query(
        "SELECT datconnlimit::text AS connection_limit, datacl IS NOT NULL AS has_grants, \
         pg_get_userbyid(datdba)::text AS owner FROM pg_database WHERE datname = $1",
    )
    .bind::<Text, _>(from)
    .get_result(conn)?;
    let mut statements = vec![
        format!("ALTER DATABASE {database} CONNECTION LIMIT {connection_limit}"),
        format!("ALTER DATABASE {database} OWNER TO {}", quoted(&owner)),
        format!("ALTER DATABASE {database} RESET ALL"),
    ];
    if has_grants {
        statements.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
        statements.push(format!("REVOKE ALL ON DATABASE {database} FROM {}", quoted(&owner)));
        statements.extend(grants(conn, from)?.iter().map(|grant| grant.statement(&database)));
    }
    statements.extend(settings(conn, from)?.iter().filter_map(|it| it.statement(&database)));
    Ok(statements)
}

fn grants(conn: &mut AnyConnection, database: &str) -> QueryResult<Vec<Grant>> {
    diesel::sql_query(
        "SELECT CASE WHEN acl.grantee <> 0 THEN pg_get_userbyid(acl.grantee)::text END AS grantee, \
         acl.privilege_type AS privilege, acl.is_grantable AS may_grant \
         FROM pg_database, aclexplode(datacl) AS acl WHERE datname = $1 ORDER BY 1, 2",
    )
    .bind::<Text, _>(database)
    .load(conn)
}

fn settings(conn: &mut AnyConnection, database: &str) -> QueryResult<Vec<Setting>> {
    diesel::sql_query(
        "SELECT CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole)::text END AS role, setting \
         FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase, \
         unnest(s.setconfig) AS setting WHERE d.datname = $1 ORDER BY 1 NULLS FIRST, 2",
    )
    .bind::<Text, _>(database)
    .load(conn)
}

impl Grant {
    fn statement(&self, database: &str) -> String {
        let Self { grantee, privilege, may_grant } = self;
        let grantee = grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), quoted);
        let option = if *may_grant { " WITH GRANT OPTION" } else { "" };
        format!("GRANT {privilege} ON DATABASE {database} TO {grantee}{option}")
    }
}

impl Setting {
    fn statement(&self, database: &str) -> Option<String> {
        let (name, value) = self.setting.split_once('=')?;
        let target = match &self.role {
            Some(role) => format!("ROLE {} IN DATABASE {database}", quoted(role)),
            None => format!("DATABASE {database}"),
        };
        let values = if LISTS.contains(&name) {
            let names: Vec<String> = split_list(value).iter().map(|name| literal(name)).collect();
            names.join(",")
        } else {
            literal(value)
        };
        // A name may have a dot, and its parts are written one by one.
        let name: Vec<String> = name.split('.').map(quoted).collect();
        Some(format!("ALTER {target} SET {} TO{values}", name.join(".")))
    }
}

/// The names in a list as PostgreSQL keeps it: separated by commas, those with odd characters in quotes.
fn split_list(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut is_quoted = false;
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                name.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => names.push(std::mem::take(&mut name)),
            ' ' if !is_quoted => {}
            other => name.push(other),
        }
    }
    names.push(name);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(role: Option<&str>, setting: &str) -> String {
        let setting = Setting { role: role.map(ToOwned::to_owned), setting: setting.to_owned() };
        setting.statement("\"app\"").unwrap()
    }

    #[test]
    fn settings_are_written_as_they_were_given() {
        insta::assert_snapshot!(
            [
                statement(None, "work_mem=64MB"),
                statement(Some("reader"), "statement_timeout=5s"),
                statement(None, r#"search_path="$user", public, "a "" b""#),
                statement(None, r"my.option=it's \ odd"),
                statement(None, r#"search_path="""#),
            ]
            .join("\n"),
            @r#"
        ALTER DATABASE "app" SET "work_mem" TO E'64MB'
        ALTER ROLE "reader" IN DATABASE "app" SET "statement_timeout" TO E'5s'
        ALTER DATABASE "app" SET "search_path" TO E'$user', E'public', E'a " b'
        ALTER DATABASE "app" SET "my"."option" TO E'it''s \\ odd'
        ALTER DATABASE "app" SET "search_path" TO E''
        "#
        );
    }
}
