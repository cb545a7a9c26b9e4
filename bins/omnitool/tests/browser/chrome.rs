//! A browser, with the words that the tests use: what a page calls its fields and buttons, not how it marks them up.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource as _, KeyAction, KeyActions},
    elements::Element,
    key::Key,
    wd::WebDriverCompatibleCommand,
};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::driver::Driver;

/// How long something on the screen may take. Nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// A phone in upright position: what many people hold, in CSS pixels.
pub(crate) const PHONE: (u32, u32) = (390, 844);
/// The narrowest screen that pages must fit (WCAG 2.1, 1.4.10).
pub(crate) const NARROWEST: (u32, u32) = (320, 568);

/// Where one can write.
const FIELDS: &str = "input:not([type=hidden]), textarea";

/// The folder of what is downloaded.
const DOWNLOADS: &str = "downloads";

/// How the protocol marks an element in JSON.
const ELEMENT_KEY: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window.
#[derive(Debug)]
pub(crate) struct Chrome {
    client: Client,
    /// Begins each address.
    base: String,
    /// Ends the browser with this value, also where the test fails.
    driver: Driver,
}

/// What the visitor prefers to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

/// A command that only Chromium's driver knows.
#[derive(Debug)]
struct ChromiumCommand {
    /// After the session's address.
    path: String,
    /// `None` for a `GET`.
    body: Option<Value>,
}

impl WebDriverCompatibleCommand for ChromiumCommand {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        match &self.body {
            Some(body) => (http::Method::POST, Some(body.to_string())),
            None => (http::Method::GET, None),
        }
    }
}

impl Chrome {
    /// A fresh browser for the app at `base`.
    pub(crate) async fn start(base: &str) -> Self {
        Self::start_with(base, json!({})).await
    }

    /// A browser whose visitor has switched scripts off.
    pub(crate) async fn without_scripts(base: &str) -> Self {
        Self::start_with(base, json!({ "profile.managed_default_content_settings.javascript": 2 }))
            .await
    }

    async fn start_with(base: &str, mut preferences: Value) -> Self {
        let driver = Driver::start();
        preferences["download.default_directory"] = json!(driver.folder().join(DOWNLOADS));
        let arguments = [
            "--headless=new",
            // Chromium refuses root without it, and containers lack what it needs; the pages are our own.
            "--no-sandbox",
            // Ends the browser with the driver.
            "--remote-debugging-pipe",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--no-proxy-server",
            // Nothing but the app can be reached.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--window-size=1280,900",
            &format!("--user-data-dir={}", driver.folder().join("profile").display()),
        ];
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                "binary": driver.chromium(),
                "args": arguments,
                "prefs": preferences,
            },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("it is an object") };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(driver.url())
            .await
            .unwrap();
        Self { client, base: base.to_owned(), driver }
    }

    /// Goes on with another app.
    pub(crate) fn visit(&mut self, base: &str) {
        base.clone_into(&mut self.base);
    }

    /// Opens a page of the app.
    pub(crate) async fn open(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.base)).await.unwrap();
    }

    /// Logs in and arrives at the dashboard.
    pub(crate) async fn log_in(&self, user: &str, password: &str) {
        self.open("/login").await;
        self.fill("User name", user).await;
        self.fill("Password", password).await;
        self.press("Log in").await;
        self.arrives_at("/dashboard").await;
    }

    /// Where the browser is, without the app's address.
    pub(crate) async fn path(&self) -> String {
        let url = self.client.current_url().await.unwrap();
        url.as_str().strip_prefix(&self.base).unwrap().to_owned()
    }

    /// Waits until the path begins so.
    pub(crate) async fn arrives_at(&self, start: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let path = self.path().await;
            if path.starts_with(start) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "at {path} instead of {start}:\n{}",
                self.text().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the page says this.
    pub(crate) async fn sees(&self, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text().await;
            if text.contains(expected) {
                return;
            }
            assert!(Instant::now() < deadline, "no {expected:?} in\n{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the page says.
    pub(crate) async fn text(&self) -> String {
        self.text_of("body").await
    }

    /// What the page says below the navigation.
    pub(crate) async fn content(&self) -> String {
        self.text_of("main").await
    }

    /// The page's first heading.
    pub(crate) async fn heading(&self) -> String {
        self.text_of("h1").await
    }

    async fn text_of(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        self.run(script, vec![selector.into()]).await.as_str().unwrap().to_owned()
    }

    pub(crate) async fn title(&self) -> String {
        self.client.title().await.unwrap()
    }

    /// Waits until an element with a role, `status` or `alert`, says this.
    pub(crate) async fn says(&self, role: &str, expected: &str) {
        let script = "
            const elements = document.querySelectorAll(`[role=${arguments[0]}]`);
            return [...elements].map((element) => element.innerText);";
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.run(script, vec![role.into()]).await;
            if said.as_array().unwrap().iter().any(|text| text == expected) {
                return;
            }
            assert!(Instant::now() < deadline, "{role} is {said} instead of {expected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The first visible element that one of the CSS selectors matches within another, and that assistive technology
    /// calls by this name.
    async fn find(&self, within: &str, selectors: &str, name: &str) -> Element {
        // Asking for a name takes a while, so only those that may have it are asked.
        let script = "
            const [within, selectors, name] = arguments;
            const texts = (element) => [element, ...(element.labels ?? [])].map((each) => each.textContent);
            const says = (text) => text?.replace(/\\s+/g, ' ').includes(name);
            return [...document.querySelectorAll(selectors)].filter((element) =>
                element.closest(within) !== null
                && [...texts(element), element.getAttribute('aria-label')].some(says));";
        let arguments = [within, selectors, name].map(Value::from).to_vec();
        let mut names = Vec::new();
        for found in self.run(script, arguments).await.as_array().unwrap() {
            let reference = found[ELEMENT_KEY].as_str().unwrap().to_owned();
            let element = Element::from_element_id(self.client.clone(), reference.into());
            let label = self.label(&element).await;
            if label == name && element.is_displayed().await.unwrap() {
                return element;
            }
            names.push(label);
        }
        let text = self.text().await;
        panic!("{} has no {selectors} called {name:?}, but {names:?}:\n{text}", self.path().await)
    }

    async fn label(&self, element: &Element) -> String {
        let path = format!("element/{}/computedlabel", element.element_id());
        let label = self.command(path, None).await;
        label.as_str().unwrap().to_owned()
    }

    async fn command(&self, path: impl Into<String>, body: Option<Value>) -> Value {
        self.client.issue_cmd(ChromiumCommand { path: path.into(), body }).await.unwrap()
    }

    /// Replaces the text of the field of this name.
    pub(crate) async fn fill(&self, name: &str, text: &str) {
        self.fill_in("body", name, text).await;
    }

    /// The same within an element, where the page has more fields of this name.
    pub(crate) async fn fill_in(&self, within: &str, name: &str, text: &str) {
        let field = self.find(within, FIELDS, name).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// What is in the field of this name.
    pub(crate) async fn value(&self, name: &str) -> String {
        self.find("body", FIELDS, name).await.prop("value").await.unwrap().unwrap()
    }

    /// Clicks the button of this name, and waits for the page that it leads to.
    pub(crate) async fn press(&self, name: &str) {
        self.press_in("body", name).await;
    }

    /// The same within an element, where the page has more buttons of this name.
    pub(crate) async fn press_in(&self, within: &str, name: &str) {
        let button = self.find(within, "button", name).await;
        self.leave_by(&button).await;
    }

    /// Clicks the link of this name, and waits for the page that it leads to.
    pub(crate) async fn follow(&self, name: &str) {
        let link = self.find("body", "a[href]", name).await;
        self.leave_by(&link).await;
    }

    async fn leave_by(&self, element: &Element) {
        self.run("window.isLeft = true", Vec::new()).await;
        element.click().await.unwrap();
        let script = "return window.isLeft !== true && document.readyState === 'complete'";
        let deadline = Instant::now() + PATIENCE;
        // Between two pages there is none that could answer.
        while !self.client.execute(script, Vec::new()).await.is_ok_and(|answer| answer == true) {
            assert!(Instant::now() < deadline, "nothing leads away from {}", self.path().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Clicks the link of this name, which gives this file, and returns the file.
    pub(crate) async fn download(&self, link: &str, file: &str) -> Vec<u8> {
        self.find("body", "a[href]", link).await.click().await.unwrap();
        let file = self.driver.folder().join(DOWNLOADS).join(file);
        let deadline = Instant::now() + PATIENCE;
        // It gets its name when it is complete.
        while !file.is_file() {
            assert!(Instant::now() < deadline, "there is no {}", file.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::fs::read(file).unwrap()
    }

    /// The names of the links within an element.
    pub(crate) async fn links(&self, within: &str) -> Vec<String> {
        let mut names = Vec::new();
        let selector = format!("{within} a[href]");
        for element in self.client.find_all(Locator::Css(&selector)).await.unwrap() {
            if element.is_displayed().await.unwrap() {
                names.push(self.label(&element).await);
            }
        }
        names
    }

    /// How many elements there are.
    pub(crate) async fn count(&self, selector: &str) -> usize {
        self.client.find_all(Locator::Css(selector)).await.unwrap().len()
    }

    /// Types where the focus is.
    pub(crate) async fn type_keys(&self, text: &str) {
        let keyboard = text.chars().fold(KeyActions::new("keyboard".to_owned()), |keys, value| {
            keys.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        });
        self.client.perform_actions(keyboard).await.unwrap();
    }

    /// Presses a key where the focus is.
    pub(crate) async fn hit(&self, key: Key) {
        self.type_keys(&char::from(key).to_string()).await;
    }

    /// The name of what has the focus.
    pub(crate) async fn focused(&self) -> String {
        let element = self.client.active_element().await.unwrap();
        self.label(&element).await
    }

    /// Runs the body of a function with these arguments, also where the page's policy forbids scripts.
    pub(crate) async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute(script, arguments).await.unwrap()
    }

    /// The same for one that gives its result to its last argument, a function.
    pub(crate) async fn run_async(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute_async(script, arguments).await.unwrap()
    }

    /// The status of the answer that the page is.
    pub(crate) async fn status(&self) -> u64 {
        let script = "return performance.getEntriesByType('navigation')[0].responseStatus";
        self.run(script, Vec::new()).await.as_u64().unwrap()
    }

    /// Calls the browser itself.
    async fn devtools(&self, method: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": method, "params": parameters });
        self.command("goog/cdp/execute", Some(body)).await
    }

    pub(crate) async fn prefer(&self, scheme: Scheme) {
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Gives the browser a phone's screen, or takes it away.
    pub(crate) async fn hold(&self, phone: Option<(u32, u32)>) {
        match phone {
            Some((width, height)) => {
                let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
                self.devtools("Emulation.setDeviceMetricsOverride", metrics).await
            }
            None => self.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await,
        };
    }

    /// Whether the page is dark behind its text.
    pub(crate) async fn ground_is_dark(&self) -> bool {
        let script = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)";
        let colour: Vec<u64> = self
            .run(script, Vec::new())
            .await
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_u64)
            .collect();
        colour.iter().sum::<u64>() < 3 * 128
    }

    /// How thick the line is around what has the focus, in CSS pixels.
    pub(crate) async fn outline_of_focus(&self) -> f64 {
        let script = "
            const style = getComputedStyle(document.activeElement);
            return style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth);";
        self.run(script, Vec::new()).await.as_f64().unwrap()
    }

    /// Opens whatever is folded.
    pub(crate) async fn open_all_details(&self) {
        let script =
            "document.querySelectorAll('details').forEach((each) => { each.open = true; })";
        self.run(script, Vec::new()).await;
    }

    /// What the first cells of a table's rows say.
    pub(crate) async fn row_headers(&self, table: &str) -> Vec<String> {
        let script = "
            const cells = document.querySelector(arguments[0]).querySelectorAll('tbody th a');
            return [...cells].map((cell) => cell.textContent);";
        let headers = self.run(script, vec![table.into()]).await;
        headers.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// By how many pixels the page is wider than the window, and what makes it so.
    pub(crate) async fn overflow(&self) -> (i64, String) {
        let script = "
            const page = document.documentElement;
            const inside = (element) => element.closest('.wide, [hidden]') !== null;
            const wide = [...document.querySelectorAll('body *')].filter((element) =>
                !inside(element) && element.getBoundingClientRect().right > page.clientWidth + 1);
            const names = wide.slice(0, 5).map((element) => element.outerHTML.slice(0, 120));
            return [Math.max(page.scrollWidth - page.clientWidth, page.scrollWidth - screen.width), names.join('\\n')];";
        let answer = self.run(script, Vec::new()).await;
        (answer[0].as_i64().unwrap(), answer[1].as_str().unwrap().to_owned())
    }

    /// The whole page as a PNG.
    async fn screenshot(&self) -> Vec<u8> {
        let whole = json!({ "captureBeyondViewport": true, "optimizeForSpeed": true });
        let answer = self.devtools("Page.captureScreenshot", whole).await;
        BASE64_STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }

    /// The page as it is printed: a PDF.
    pub(crate) async fn print(&self) -> Vec<u8> {
        let answer = self.command("print", Some(json!({ "background": true }))).await;
        BASE64_STANDARD.decode(answer.as_str().unwrap()).unwrap()
    }

    /// Keeps a picture of the page for people to look at.
    pub(crate) async fn keep_screenshot(&self, name: &str) {
        self.keep(&format!("{name}.png"), &self.screenshot().await);
    }

    /// Keeps something for people to look at.
    pub(crate) fn keep(&self, name: &str, content: &[u8]) {
        let folder = match std::env::var_os("OMNITOOL_SCREENSHOTS") {
            Some(folder) if !folder.is_empty() => PathBuf::from(folder),
            _ => PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots"),
        };
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), content).unwrap();
    }

    /// What the browser has complained of since the last call: scripts, the page's policy, missing files.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let entries = self.command("se/log", Some(json!({ "type": "browser" }))).await;
        let text = |entry: &Value| entry["message"].as_str().unwrap().replace(&self.base, "");
        entries.as_array().unwrap().iter().map(text).collect()
    }

    /// Asserts that the browser has nothing to complain of, and ends it.
    pub(crate) async fn close(self) {
        assert_eq!(self.complaints().await, [""; 0]);
        self.client.close().await.unwrap();
    }
}
