//! A server that accepts nothing but encrypted connections.

use omnitool_database::{Mode, open};
use omnitool_environment::DatabaseUrl;
use omnitool_testing::PostgresServer;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Only the loopback address with TLS, and the socket for the test's own set-up.
const ONLY_TLS: &str = "hostssl all all 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n";

#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "for the tests with encryption"))]
struct SslOnlyServer {
    server: PostgresServer,
    folder: tempfile::TempDir,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // Its own name: a certificate whose issuer has its own name passes for self-signed.
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl SslOnlyServer {
    fn start() -> Self {
        let issuer = authority("right");
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let server = PostgresServer::start(&[
            ("server.crt", &certificate.pem()),
            ("server.key", &key.serialize_pem()),
            ("postgresql.auto.conf", "ssl = on\n"),
            ("pg_hba.conf", ONLY_TLS),
        ]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("right.pem"), issuer.pem()).unwrap();
        std::fs::write(folder.path().join("other.pem"), authority("other").pem()).unwrap();
        Self { server, folder }
    }

    fn url(&self, parameters: &str) -> DatabaseUrl {
        format!("{}?{parameters}", self.server.url().expose()).parse().unwrap()
    }

    #[cfg(feature = "tls")]
    fn trusting(&self, authority: &str) -> DatabaseUrl {
        let file = self.folder.path().join(authority);
        self.url(&format!("sslmode=verify-full&sslrootcert={}", file.display()))
    }

    fn refusal(&self, url: &DatabaseUrl) -> String {
        let Err(error) = open(url, Mode::Write) else { panic!("{url} must be refused") };
        std::error::Error::source(&error).unwrap().to_string()
    }
}

#[test]
fn clear_text_is_refused_by_an_ssl_only_server() {
    let server = SslOnlyServer::start();
    let refusal = server.refusal(&server.url("sslmode=disable"));
    assert!(refusal.contains("no encryption"), "{refusal}");
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_says_so_where_tls_is_required() {
    let server = SslOnlyServer::start();
    let refusal = server.refusal(&server.url("sslmode=require"));
    assert!(refusal.contains("SSL support is not compiled in"), "{refusal}");
}

#[cfg(feature = "tls")]
#[test]
fn a_build_with_tls_connects_and_verifies_the_server() {
    use diesel::{RunQueryDsl as _, dsl::sql, sql_types::Bool};
    let server = SslOnlyServer::start();
    for url in [server.url("sslmode=require"), server.trusting("right.pem")] {
        let mut conn = open(&url, Mode::Write).unwrap();
        let encrypted = sql::<Bool>("(SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())");
        assert_eq!(diesel::select(encrypted).get_result(&mut conn), Ok(true));
    }
    let refusal = server.refusal(&server.trusting("other.pem"));
    assert!(refusal.contains("certificate verify failed"), "{refusal}");
}
