//! Answers in Heroku's form.

use serde_json::{Value, json};

/// What a request is answered with.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", "application/json".to_owned())],
            body: body.to_string().into_bytes(),
        }
    }

    pub(crate) fn ok(body: &Value) -> Self {
        Self::json(200, body)
    }

    pub(crate) fn created(body: &Value) -> Self {
        Self::json(201, body)
    }

    pub(crate) fn text(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type", content_type.to_owned())], body: body.into() }
    }

    pub(crate) fn error(status: u16, id: &str, message: &str) -> Self {
        Self::json(
            status,
            &json!({ "id": id, "message": message, "url": "https://devcenter.heroku.com/articles/platform-api-reference#errors" }),
        )
    }

    pub(crate) fn not_found(what: &str) -> Self {
        let mut body =
            json!({ "id": "not_found", "message": format!("Couldn't find that {what}.") });
        body["resource"] = json!(
            what.replace("add-on attachment", "add_on attachment").replace("add-on", "add_on")
        );
        Self::json(404, &body)
    }

    pub(crate) fn invalid(message: &str) -> Self {
        Self::error(422, "invalid_params", message)
    }

    /// One page of a list, as the `Range` header asks for it.
    pub(crate) fn page(items: &[Value], key: &str, range: Option<&str>) -> Self {
        let range = Range::parse(range.unwrap_or_default(), key);
        let text = |item: &Value| match &item[key] {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let mut sorted: Vec<&Value> = items.iter().collect();
        sorted.sort_by(|a, b| compare(&a[key], &b[key]));
        if range.descending {
            sorted.reverse();
        }
        let start = match &range.after {
            None => 0,
            Some(after) => {
                sorted.iter().position(|item| text(item) == *after).map_or(0, |at| at + 1)
            }
        };
        let rest = &sorted[start.min(sorted.len())..];
        let page = &rest[..rest.len().min(range.max)];
        let more = rest.len() > page.len();
        let body = Value::Array(page.iter().map(|item| (*item).clone()).collect());
        let mut answer = Self::json(if more { 206 } else { 200 }, &body);
        answer.headers.push(("Accept-Ranges", "id, name, version, created_at".to_owned()));
        if let (Some(first), Some(last)) = (page.first(), page.last()) {
            answer
                .headers
                .push(("Content-Range", format!("{key} {}..{}", text(first), text(last))));
            if more {
                let order = if range.descending { ",order=desc" } else { "" };
                let next = format!("{key} ]{}..; max={}{order}", text(last), range.max);
                answer.headers.push(("Next-Range", next));
            }
        }
        answer
    }
}

fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a.as_u64(), b.as_u64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.to_string().cmp(&b.to_string()),
    }
}

/// `version ]7..; max=15, order=desc`.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    after: Option<String>,
    max: usize,
    descending: bool,
}

impl Range {
    fn parse(text: &str, key: &str) -> Self {
        let (bounds, settings) = text.split_once(';').unwrap_or((text, ""));
        let after = bounds
            .trim()
            .strip_prefix(key)
            .and_then(|rest| rest.trim().strip_prefix(']'))
            .and_then(|rest| rest.split("..").next())
            .map(str::to_owned);
        let mut range = Self { after, max: 200, descending: false };
        for setting in settings.split([',', ';']) {
            match setting.trim().split_once('=') {
                Some(("max", max)) => range.max = max.trim().parse().unwrap_or(200).clamp(1, 1000),
                Some(("order", order)) => range.descending = order.trim() == "desc",
                _ => {}
            }
        }
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let items: Vec<Value> = (1..=5).map(|version| json!({ "version": version })).collect();
        let mut range = Some("version ..; max=2, order=desc".to_owned());
        let mut seen = Vec::new();
        while let Some(asked) = range {
            let answer = Answer::page(&items, "version", Some(&asked));
            let page: Vec<Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
            seen.extend(page.iter().map(|item| item["version"].as_u64()));
            range = answer
                .headers
                .iter()
                .find(|(name, _)| *name == "Next-Range")
                .map(|(_, value)| value.clone());
            assert_eq!(answer.status, if range.is_some() { 206 } else { 200 });
        }
        assert_eq!(seen, [Some(5), Some(4), Some(3), Some(2), Some(1)]);
    }
}
