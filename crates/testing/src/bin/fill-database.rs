//! `fill-database USERS TOOLS`: fills the migrated database at `DATABASE_URL` for benchmarks.
//!
//! Makes users `user_0000001`… and tools `Tool 01`…, and grants every second combination.

#![allow(clippy::print_stderr, reason = "test code")]

use std::process::ExitCode;

use diesel::connection::SimpleConnection as _;
use omnitool_database::{Mode, open, write_transaction};
use omnitool_environment::DatabaseUrl;

fn main() -> ExitCode {
    let arguments: Vec<u32> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [users, tools] = arguments[..] else {
        eprintln!("usage: DATABASE_URL=… fill-database USERS TOOLS");
        return ExitCode::from(2);
    };
    match fill(users, tools) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot fill the database: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fill(users: u32, tools: u32) -> Result<(), Box<dyn std::error::Error>> {
    let url: DatabaseUrl = std::env::var("DATABASE_URL")?.parse()?;
    let mut conn = open(&url, Mode::Write)?;
    // Both dialects know recursive queries, `substr` and `||`.
    let users = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {users}) \
         INSERT INTO users (username, password_hash) \
         SELECT 'user_' || substr('0000000' || i, length('0000000' || i) - 6), '!' FROM n"
    );
    let tools = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {tools}) \
         INSERT INTO tools (name, route) \
         SELECT 'Tool ' || substr('00' || i, length('00' || i) - 1), '/tool_' || i FROM n"
    );
    let grants = "INSERT INTO tool_access (user_id, tool_id, origin) \
                  SELECT users.id, tools.id, 'admin' FROM users CROSS JOIN tools \
                  WHERE tools.name LIKE 'Tool %' AND (users.id + tools.id) % 2 = 0 \
                  ORDER BY users.id, tools.id";
    write_transaction(&mut conn, |conn| {
        conn.batch_execute(&users)?;
        conn.batch_execute(&tools)?;
        conn.batch_execute(grants)
    })?;
    conn.batch_execute("ANALYZE")?;
    Ok(())
}
