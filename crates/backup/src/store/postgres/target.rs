//! URLs as PostgreSQL's programs and connections to other databases of the same server need them.

use omnitool_environment::{DatabaseKind, DatabaseUrl};

/// What a program is told about a connection: nothing secret is in its arguments.
pub(super) struct ProgramTarget {
    /// The URL without any password, for `--dbname`.
    pub(super) url: String,
    /// Variables for its environment: the password, and defaults where the URL says nothing.
    pub(super) variables: Vec<(&'static str, String)>,
}

/// A PostgreSQL URL in its parts, as written.
struct Parts<'a> {
    /// Up to and with `://`.
    scheme: &'a str,
    user: Option<&'a str>,
    password: Option<&'a str>,
    hosts: &'a str,
    path: Option<&'a str>,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let start = base.find("://").map_or(0, |at| at + 3);
        let (scheme, rest) = base.split_at(start);
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        let (userinfo, hosts) = match authority.rsplit_once('@') {
            Some((userinfo, hosts)) => (Some(userinfo), hosts),
            None => (None, authority),
        };
        let (user, password) = match userinfo.map(|info| info.split_once(':').unwrap_or((info, "")))
        {
            Some((user, "")) => (Some(user), None),
            Some((user, password)) => (Some(user), Some(password)),
            None => (None, None),
        };
        let parameters = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        Self { scheme, user, password, hosts, path, parameters }
    }

    fn parameter(&self, key: &str) -> Option<&'a str> {
        self.parameters.iter().rfind(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// Parameters win over the rest, as in libpq.
    fn database(&self) -> Option<String> {
        let name = self.parameter("dbname").or(self.path).or_else(|| self.user_name());
        // A URL without a database's name leads to the one that is called like the user.
        let name = name.filter(|name| !name.is_empty()).or_else(|| self.user_name())?;
        Some(percent_decode(name))
    }

    fn user_name(&self) -> Option<&'a str> {
        self.parameter("user").or(self.user)
    }

    fn write(&self) -> String {
        let mut url = self.scheme.to_owned();
        if let Some(user) = self.user {
            url += user;
            if let Some(password) = self.password {
                url += ":";
                url += password;
            }
            url += "@";
        }
        url += self.hosts;
        url += "/";
        url += self.path.unwrap_or_default();
        for (number, (key, value)) in self.parameters.iter().enumerate() {
            url.push(if number == 0 { '?' } else { '&' });
            url += key;
            url.push('=');
            url += value;
        }
        url
    }
}

/// The name of the database that `url` leads to; none where only the environment would tell.
pub(super) fn database_name(url: &DatabaseUrl) -> Option<String> {
    match url.kind() {
        DatabaseKind::Postgres { .. } => {
            Parts::of(url.expose()).database().filter(|name| !name.is_empty())
        }
        _ => None,
    }
}

/// The same server and user with another database.
pub(super) fn with_database(url: &DatabaseUrl, name: &str) -> DatabaseUrl {
    let encoded = percent_encode(name);
    let mut parts = Parts::of(url.expose());
    parts.parameters.retain(|(key, _)| *key != "dbname");
    parts.path = Some(&encoded);
    parts.write().parse().expect("only the database's name was replaced, by an encoded one")
}

/// What to tell a program that shall connect to the database `name` on the server of `url`.
pub(super) fn for_programs(url: &DatabaseUrl, name: &str) -> ProgramTarget {
    let url = with_database(url, name);
    let mut parts = Parts::of(url.expose());
    let password = parts.parameter("password").or(parts.password).map(percent_decode);
    parts.password = None;
    // libpq has no variable for a key's password; without it, the program says that the key needs one.
    parts.parameters.retain(|(key, _)| !["password", "sslpassword"].contains(key));
    // The same defaults as for our own connections.
    let stays = matches!(url.kind(), DatabaseKind::Postgres { stays_on_this_machine: true, .. });
    let mut variables = vec![
        ("PGCONNECT_TIMEOUT", "10".to_owned()),
        ("PGAPPNAME", "omnitool".to_owned()),
        ("PGSSLMODE", if stays { "prefer" } else { "require" }.to_owned()),
    ];
    variables.extend(password.map(|password| ("PGPASSWORD", password)));
    ProgramTarget { url: parts.write(), variables }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3).filter(|_| byte == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

/// A name as it stands in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as it stands in a statement that takes no parameters.
pub(super) fn literal(text: &str) -> String {
    // The prefix makes backslashes mean the same whatever the server's settings are.
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> DatabaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn the_database_is_found_where_libpq_finds_it() {
        for (text, expected) in [
            ("postgres://u:p@localhost/app?sslmode=require", Some("app")),
            ("postgres://u@localhost/app?dbname=other", Some("other")),
            ("postgres://u@localhost", Some("u")),
            ("postgres:///?host=/run&user=omni", Some("omni")),
            ("postgres://localhost/", None),
            ("postgres://localhost/a%20b", Some("a b")),
        ] {
            assert_eq!(database_name(&url(text)).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn another_database_on_the_same_server() {
        for (text, expected) in [
            ("postgres://u:p@h1/a?sslmode=require", "postgres://u:p@h1/x%20y?sslmode=require"),
            ("postgres://u@localhost:5433", "postgres://u@localhost:5433/x%20y"),
            ("postgresql:///a?host=/run&dbname=b", "postgresql:///x%20y?host=/run"),
        ] {
            assert_eq!(with_database(&url(text), "x y").expose(), expected);
        }
    }

    #[test]
    fn a_program_gets_the_password_by_its_environment_only() {
        for text in [
            "postgres://u:hunter%232@localhost/a?application_name=x",
            "postgres://u@localhost/a?password=hunter%232&application_name=x",
        ] {
            let target = for_programs(&url(text), "b");
            assert_eq!(target.url, "postgres://u@localhost/b?application_name=x");
            assert!(target.variables.contains(&("PGPASSWORD", "hunter#2".to_owned())));
        }
    }

    proptest! {
        #[test]
        fn a_password_never_stands_in_an_argument(password in "[a-z0-9]{12,24}") {
            let text = format!("postgres://u:{password}@h.example.org/a?password={password}&sslpassword={password}");
            let target = for_programs(&url(&text), "b");
            prop_assert!(!target.url.contains(&password));
        }

        #[test]
        fn any_name_survives_the_url(name in "[^\0]{1,20}") {
            let other = with_database(&url("postgres://u@localhost/a"), &name);
            prop_assert_eq!(database_name(&other), Some(name));
        }
    }
}
