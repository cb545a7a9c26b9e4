//! Messages to webhooks, with servers on this machine.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::mpsc,
    thread,
};

use omnitool_pipeline::{Event, Notifier, Record, Service, Webhook};
use serde_json::Value;

use crate::html::journal;

/// What the servers of these tests do with a request.
enum Manner {
    Answer(&'static str),
    Hang,
}

/// A server on this machine, which passes on the bodies that it gets.
fn server(manner: Manner) -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/services/hunter2", listener.local_addr().unwrap());
    let (got, bodies) = mpsc::channel();
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let _ = got.send(serde_json::from_slice(&body).unwrap());
            match manner {
                Manner::Answer(answer) => stream.write_all(answer.as_bytes()).unwrap(),
                // Closing the connection would be an answer.
                Manner::Hang => open.push(stream),
            }
        }
    });
    (url, bodies)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

fn webhook(service: Service, url: &str) -> Webhook {
    Webhook::new(service, url.to_owned().into()).unwrap()
}

/// Tells `webhooks` about the run with this journal, and returns what did not arrive.
fn tell(webhooks: Vec<Webhook>, name: &str) -> Vec<String> {
    let mut notifier = Notifier::new(webhooks, Some("https://ci.example.com/runs/7".to_owned()));
    for Record { at: _, event } in journal(name) {
        notifier.tell(&event);
    }
    notifier.finish().iter().map(ToString::to_string).collect()
}

#[test]
fn slack_hears_of_the_start_and_of_the_failure() {
    let (url, bodies) = server(Manner::Answer(OK));
    assert_eq!(tell(vec![webhook(Service::Slack, &url)], "failed"), Vec::<String>::new());
    let texts: Vec<String> =
        bodies.try_iter().map(|body| body["text"].as_str().unwrap().to_owned()).collect();
    insta::assert_snapshot!(texts.join("\n--\n"), @r"
    🚀 ann deploys release 0002 to production
    https://ci.example.com/runs/7
    --
    ❌ ann's deployment of release 0002 to production stopped in the step verify after 4.2 s
    verify-migration failed: 1 of 8 checks failed:
    https://ci.example.com/runs/7
    ");
}

#[test]
fn discord_hears_of_it_and_calls_nobody() {
    let (url, bodies) =
        server(Manner::Answer("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"));
    assert_eq!(tell(vec![webhook(Service::Discord, &url)], "warned"), Vec::<String>::new());
    let last = bodies.try_iter().last().unwrap();
    insta::assert_snapshot!(last, @r#"{"allowed_mentions":{"parse":[]},"content":"⚠️ ann deployed release 0002 to staging after 4.5 s, with warnings\nhttps://ci.example.com/runs/7"}"#);
}

#[test]
fn anything_else_gets_all_fields() {
    let (url, bodies) = server(Manner::Answer(OK));
    assert_eq!(tell(vec![webhook(Service::Json, &url)], "failed"), Vec::<String>::new());
    let last = bodies.try_iter().last().unwrap();
    insta::assert_snapshot!(last, @r#"{"duration_ms":4204,"environment":"production","error":"verify-migration failed: 1 of 8 checks failed:","link":"https://ci.example.com/runs/7","occasion":"failed","platform":"local","release":"0002","replaces":"0001","run":"20261124-093000-4243","step":"verify","task":"deploy","user":"ann"}"#);
}

#[test]
fn a_webhook_that_hangs_is_given_up_and_the_others_are_told() {
    let (hanging, _bodies) = server(Manner::Hang);
    let (fine, bodies) = server(Manner::Answer(OK));
    let webhooks = vec![webhook(Service::Json, &hanging), webhook(Service::Slack, &fine)];
    // That this comes back at all is what matters: the server never answers.
    let failed = tell(webhooks, "warned");
    assert!(
        !failed.is_empty() && failed.iter().all(|text| text.starts_with("the JSON webhook")),
        "{failed:?}"
    );
    assert!(!failed.join("").contains("hunter2"), "{failed:?}");
    assert_eq!(bodies.try_iter().count(), 2);
}

#[test]
fn telling_takes_no_time_from_the_run() {
    let (hanging, bodies) = server(Manner::Hang);
    let mut notifier = Notifier::new(vec![webhook(Service::Json, &hanging)], None);
    for Record { event, .. } in journal("warned") {
        notifier.tell(&event);
        if matches!(event, Event::RunEnded { .. }) {
            // All events are through although the first message has no answer yet.
            assert!(bodies.try_iter().count() < 2);
        }
    }
}

#[test]
fn what_refuses_or_sends_elsewhere_or_is_not_there_is_named_without_its_address() {
    let (refusing, _) = server(Manner::Answer(
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ));
    let (elsewhere, bodies) = server(Manner::Answer(OK));
    let moved: &'static str = Box::leak(
        format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into(),
    );
    let (sending_on, _) = server(Manner::Answer(moved));
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let webhooks = vec![
        webhook(Service::Slack, &refusing),
        webhook(Service::Discord, &sending_on),
        webhook(Service::Json, &format!("http://{gone}/hunter2")),
    ];
    let mut failed = tell(webhooks, "killed");
    failed.sort();
    insta::assert_snapshot!(failed.join("\n"), @r"
    the Discord webhook was not told that the run started: it answered with status 302
    the JSON webhook was not told that the run started: the connection failed (connection refused)
    the Slack webhook was not told that the run started: it answered with status 403
    ");
    assert_eq!(bodies.try_iter().count(), 0, "the message went to another address");
}
