//! Who may effectively use what.

use diesel::{
    prelude::*,
    sql_types::{Bool, Text},
};
use omnitool_database::{AnyConnection, Dialect, schema::tools};

use super::Count;
use crate::{
    assertion::{Group, Users},
    report::SHOWN_ROWS,
};

/// A tool of the database.
pub(crate) struct NamedTool {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) is_active: bool,
}

/// A user whose access is not as it should be.
#[derive(Debug, QueryableByName)]
pub(crate) struct Person {
    #[diesel(sql_type = Text)]
    pub(crate) username: String,
    #[diesel(sql_type = Bool)]
    pub(crate) is_active: bool,
    #[diesel(sql_type = Bool)]
    pub(crate) is_excluded: bool,
}

/// Users as a query chooses them.
pub(crate) struct Whom {
    condition: String,
    /// The names in JSON, where the condition has a place for them.
    names: Option<String>,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Pair {
    #[diesel(sql_type = Text)]
    username: String,
    #[diesel(sql_type = Text)]
    tool: String,
}

impl Whom {
    pub(crate) fn new(dialect: Dialect, users: &Users) -> Self {
        let group = |condition: &str| Self { condition: condition.to_owned(), names: None };
        match users {
            Users::Group(Group::Admins) => group("users.is_admin AND users.is_active"),
            Users::Group(Group::Active) => group("users.is_active"),
            Users::Group(Group::Everyone) => group("users.id = users.id"),
            Users::Named(names) => Self {
                condition: format!("users.username IN ({})", names_of(dialect)),
                names: Some(serde_json::Value::from(names.as_slice()).to_string()),
            },
        }
    }

    fn load<T: QueryableByName<omnitool_database::MultiBackend> + 'static>(
        &self,
        conn: &mut AnyConnection,
        query: String,
    ) -> QueryResult<Vec<T>> {
        match &self.names {
            Some(names) => diesel::sql_query(query).bind::<Text, _>(names).load(conn),
            None => diesel::sql_query(query).load(conn),
        }
    }
}

/// The names of a JSON list, as a subquery.
const fn names_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "SELECT value AS name FROM json_each($1)",
        Dialect::Postgres => {
            "SELECT value COLLATE \"C\" AS name FROM json_array_elements_text(CAST($1 AS json)) AS value"
        }
    }
}

pub(crate) fn list_named_tools(conn: &mut AnyConnection) -> QueryResult<Vec<NamedTool>> {
    let rows: Vec<(i64, String, bool)> =
        tools::table.select((tools::id, tools::name, tools::is_active)).load(conn)?;
    Ok(rows.into_iter().map(|(id, name, is_active)| NamedTool { id, name, is_active }).collect())
}

/// Those of `names` that no user has.
pub(crate) fn find_unknown_users(
    conn: &mut AnyConnection,
    names: &[String],
) -> QueryResult<Vec<String>> {
    let query = format!(
        "SELECT name FROM ({}) AS named \
         WHERE NOT EXISTS (SELECT 1 FROM users WHERE users.username = named.name) ORDER BY name",
        names_of(conn.dialect())
    );
    let json = serde_json::Value::from(names).to_string();
    let rows: Vec<Name> = diesel::sql_query(query).bind::<Text, _>(json).load(conn)?;
    Ok(rows.into_iter().map(|Name { name }| name).collect())
}

/// Those of `whom` for whom it is not so that they have the tool, or have it not: how many, and the first.
pub(crate) fn find_exceptions(
    conn: &mut AnyConnection,
    whom: &Whom,
    tool_id: i64,
    has: bool,
) -> QueryResult<(u64, Vec<Person>)> {
    let not = if has { "NOT " } else { "" };
    let from = format!(
        "FROM users WHERE {} AND {not}EXISTS (SELECT 1 FROM effective_tool_access AS e \
         WHERE e.user_id = users.id AND e.tool_id = {tool_id})",
        whom.condition
    );
    let query = format!(
        "SELECT username, is_active, EXISTS (SELECT 1 FROM tool_access_exclusion AS x \
            WHERE x.user_id = users.id AND x.tool_id = {tool_id}) AS is_excluded \
         {from} ORDER BY username LIMIT {}",
        SHOWN_ROWS + 1
    );
    let mut first: Vec<Person> = whom.load(conn, query)?;
    let mut count = first.len() as u64;
    if first.len() > SHOWN_ROWS {
        first.truncate(SHOWN_ROWS);
        let rows: Vec<Count> = whom.load(conn, format!("SELECT count(*) AS count {from}"))?;
        count = rows.first().map_or(0, |row| row.count.unsigned_abs());
    }
    Ok((count, first))
}

/// How many users may use a tool although they are excluded from it: none, unless the view is not ours.
pub(crate) fn count_effective_exclusions(conn: &mut AnyConnection) -> QueryResult<u64> {
    let query = "SELECT count(*) AS count FROM tool_access_exclusion AS x WHERE EXISTS ( \
         SELECT 1 FROM effective_tool_access AS e WHERE e.user_id = x.user_id AND e.tool_id = x.tool_id)";
    Ok(diesel::sql_query(query).get_result::<Count>(conn)?.count.unsigned_abs())
}

/// Those of `pairs` (user, tool) who may effectively use the tool, by tool and user.
pub(crate) fn find_effective(
    conn: &mut AnyConnection,
    pairs: &[(String, String)],
) -> QueryResult<Vec<(String, String)>> {
    let rows = match conn.dialect() {
        Dialect::Sqlite => "json_each($1)",
        Dialect::Postgres => "json_array_elements(CAST($1 AS json))",
    };
    let query = format!(
        "SELECT users.username AS username, tools.name AS tool \
         FROM (SELECT value ->> 0 AS username, value ->> 1 AS tool FROM {rows}) AS pair \
         JOIN users ON users.username = pair.username JOIN tools ON tools.name = pair.tool \
         WHERE EXISTS (SELECT 1 FROM effective_tool_access AS e \
             WHERE e.user_id = users.id AND e.tool_id = tools.id) \
         ORDER BY tools.name, users.username"
    );
    let json = serde_json::Value::from(
        pairs.iter().map(|(user, tool)| serde_json::json!([user, tool])).collect::<Vec<_>>(),
    );
    let rows: Vec<Pair> = diesel::sql_query(query).bind::<Text, _>(json.to_string()).load(conn)?;
    Ok(rows.into_iter().map(|Pair { username, tool }| (username, tool)).collect())
}
