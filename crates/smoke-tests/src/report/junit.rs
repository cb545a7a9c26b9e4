//! The report as JUnit XML, which CI systems show.

use std::{io, time::Duration};

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};

use super::{Report, TestOutcome, TestReport, text::Told};
use crate::ErrorKind;

const SUITE: &str = "smoke-tests";

impl Report {
    /// JUnit XML with one test case per test. A warning is a passed case with output.
    #[must_use]
    pub fn junit(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        write(self, &mut writer).expect("writing to memory does not fail");
        let mut text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
        text.push('\n');
        text
    }
}

fn write(report: &Report, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
    let with = |outcome| report.tests.iter().filter(|test| test.outcome == outcome).count();
    let counts = [
        ("name", SUITE.to_owned()),
        ("tests", report.tests.len().to_string()),
        ("failures", with(TestOutcome::Failed).to_string()),
        ("skipped", with(TestOutcome::Skipped).to_string()),
        ("time", seconds(report.duration_ms)),
    ];
    let attributes = || counts.iter().map(|(name, value)| (*name, value.as_str()));
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    writer.create_element("testsuites").with_attributes(attributes()).write_inner_content(
        |writer| {
            let suite = writer.create_element("testsuite").with_attributes(attributes());
            suite.write_inner_content(|writer| {
                let mut told = Told::new();
                for test in &report.tests {
                    write_case(writer, test, &mut told)?;
                }
                write_text(writer, "system-out", &report.summary)
            })?;
            Ok(())
        },
    )?;
    Ok(())
}

fn write_case<'a>(
    writer: &mut Writer<Vec<u8>>,
    test: &'a TestReport,
    told: &mut Told<'a>,
) -> io::Result<()> {
    let TestReport { number, id, name, outcome, kind, message, duration_ms, .. } = test;
    let case = writer.create_element("testcase").with_attributes([
        ("classname", format!("{SUITE}.{id}").as_str()),
        ("name", format!("{number} {name}").as_str()),
        ("time", seconds(*duration_ms).as_str()),
    ]);
    let details = test.trouble(told);
    case.write_inner_content(|writer| match outcome {
        TestOutcome::Passed => write_text(writer, "system-out", message),
        TestOutcome::Warned => write_text(writer, "system-out", &format!("{message}\n{details}")),
        TestOutcome::Skipped => {
            let skipped = writer.create_element("skipped");
            skipped.with_attribute(("message", message.as_str())).write_empty().map(drop)
        }
        TestOutcome::Failed => {
            let kind = kind.map(ErrorKind::as_str).unwrap_or_default();
            let attributes = [("type", kind), ("message", message.as_str())];
            let failure = writer.create_element("failure").with_attributes(attributes);
            failure.write_text_content(BytesText::new(&details)).map(drop)
        }
    })?;
    Ok(())
}

fn write_text(writer: &mut Writer<Vec<u8>>, element: &str, text: &str) -> io::Result<()> {
    writer.create_element(element).write_text_content(BytesText::new(text)).map(drop)
}

fn seconds(milliseconds: u64) -> String {
    format!("{:.3}", Duration::from_millis(milliseconds).as_secs_f64())
}
