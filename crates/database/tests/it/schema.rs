use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    debug_query,
    prelude::*,
    sql_types::{Nullable, Text},
    sqlite::Sqlite,
};
use omnitool_database::{AnyConnection, Dialect, schema};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};

/// Tables and views with their columns, each with its type's name in lower case.
pub(crate) type Shape = BTreeMap<String, BTreeMap<String, String>>;

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Nullable<Text>)]
    data_type: Option<String>,
}

pub(crate) fn shape(conn: &mut AnyConnection) -> Shape {
    let query = match conn.dialect() {
        Dialect::Sqlite => {
            "SELECT s.name AS table_name, c.name AS column_name, c.type AS data_type \
             FROM sqlite_schema AS s, pragma_table_info(s.name) AS c WHERE s.type IN ('table', 'view')"
        }
        Dialect::Postgres => {
            "SELECT table_name::text, column_name::text, data_type::text \
             FROM information_schema.columns WHERE table_schema = 'public'"
        }
    };
    let mut shape = Shape::new();
    for column in diesel::sql_query(query).load::<Column>(conn).unwrap() {
        shape
            .entry(column.table_name)
            .or_default()
            .insert(column.column_name, column.data_type.unwrap_or_default().to_lowercase());
    }
    shape
}

/// What a dialect calls the types that the Rust schema uses.
fn kind(data_type: &str) -> &'static str {
    match data_type {
        "integer" | "bigint" => "BigInt",
        "text" => "Text",
        "boolean" => "Bool",
        "timestamp" | "timestamp without time zone" => "Timestamp",
        other => panic!("no table uses {other}"),
    }
}

/// The columns that diesel selects, read from the SQL that it makes.
fn columns_of(sql: &str) -> BTreeSet<String> {
    let sql = sql.split(" -- ").next().unwrap();
    let list = sql.strip_prefix("SELECT ").unwrap().split(" FROM ").next().unwrap();
    list.split(", ").map(|column| column.split('`').nth(3).unwrap().to_owned()).collect()
}

fn the_migrations_make_what_the_rust_schema_says(db: TestDatabase) {
    let mut shape = shape(&mut db.connection());
    shape.remove("__diesel_schema_migrations");
    macro_rules! check {
        ($($table:ident),+) => {
            $(
                let made: BTreeSet<String> =
                    shape.remove(stringify!($table)).unwrap().into_keys().collect();
                let sql = debug_query::<Sqlite, _>(
                    &schema::$table::table.select(schema::$table::all_columns),
                ).to_string();
                assert_eq!(made, columns_of(&sql), "{}", stringify!($table));
            )+
        };
    }
    check!(
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
        migration_ledger,
        user_session,
        user_event
    );
    assert_eq!(shape, Shape::new(), "tables that the Rust schema does not know");
}

#[test]
fn both_dialects_make_the_same_tables_and_types() {
    let kinds = |dialect| {
        let mut shape = shape(&mut TestDatabase::migrated(dialect).connection());
        shape.remove("__diesel_schema_migrations");
        shape
            .into_iter()
            .map(|(table, columns)| {
                let columns: BTreeMap<_, _> = columns
                    .into_iter()
                    .map(|(column, data_type)| (column, kind(&data_type)))
                    .collect();
                (table, columns)
            })
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(kinds(Dialect::Sqlite), kinds(Dialect::Postgres));
}

fn names_are_unique_and_rows_belong_to_something(db: TestDatabase) {
    let mut conn = db.connection();
    let alice = fixture::user(&mut conn, "alice");
    let tool = fixture::tool(&mut conn, "Invoice Generator");
    let again = diesel::insert_into(schema::users::table)
        .values((schema::users::username.eq("alice"), schema::users::password_hash.eq("!")))
        .execute(&mut conn);
    assert!(again.is_err());
    let orphan = diesel::insert_into(schema::tool_access::table)
        .values((
            schema::tool_access::user_id.eq(alice),
            schema::tool_access::tool_id.eq(tool + 1000),
            schema::tool_access::origin.eq("admin"),
        ))
        .execute(&mut conn);
    assert!(orphan.is_err());
    // Deleting a tool takes its facts along.
    fixture::grant(&mut conn, alice, tool);
    fixture::everyone(&mut conn, tool);
    fixture::exclude(&mut conn, alice, tool);
    diesel::delete(schema::tools::table.find(tool)).execute(&mut conn).unwrap();
    assert_eq!(schema::tool_access::table.count().get_result(&mut conn), Ok(0_i64));
    assert_eq!(schema::tool_access_everyone::table.count().get_result(&mut conn), Ok(0_i64));
    assert_eq!(schema::tool_access_exclusion::table.count().get_result(&mut conn), Ok(0_i64));
}

fn effective_access_is_grant_or_wildcard_without_exclusion(db: TestDatabase) {
    let mut conn = db.connection();
    let granted = fixture::user(&mut conn, "granted");
    let excluded = fixture::user(&mut conn, "excluded");
    let inactive = fixture::user(&mut conn, "inactive");
    let plain = fixture::user(&mut conn, "plain");
    let by_grant = fixture::tool(&mut conn, "by grant");
    let by_wildcard = fixture::tool(&mut conn, "by wildcard");
    let switched_off = fixture::tool(&mut conn, "switched off");
    for user in [granted, excluded, inactive] {
        fixture::grant(&mut conn, user, by_grant);
        fixture::grant(&mut conn, user, switched_off);
    }
    fixture::everyone(&mut conn, by_wildcard);
    fixture::exclude(&mut conn, excluded, by_grant);
    fixture::exclude(&mut conn, excluded, by_wildcard);
    diesel::update(schema::users::table.find(inactive))
        .set(schema::users::is_active.eq(false))
        .execute(&mut conn)
        .unwrap();
    diesel::update(schema::tools::table.find(switched_off))
        .set(schema::tools::is_active.eq(false))
        .execute(&mut conn)
        .unwrap();

    let effective: BTreeSet<(i64, i64)> = schema::effective_tool_access::table
        .select((schema::effective_tool_access::user_id, schema::effective_tool_access::tool_id))
        .load(&mut conn)
        .unwrap()
        .into_iter()
        .collect();
    let expected = [(granted, by_grant), (granted, by_wildcard), (plain, by_wildcard)];
    assert_eq!(effective, BTreeSet::from(expected));
}

on_both_databases!(
    the_migrations_make_what_the_rust_schema_says,
    names_are_unique_and_rows_belong_to_something,
    effective_access_is_grant_or_wildcard_without_exclusion,
);
