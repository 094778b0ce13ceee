//! Data sets on Kaggle: their addresses, credentials and answers. Public data sets can be downloaded
//! without credentials, so those are used only where Kaggle asks for them.

use super::login::{Login, content, variable};
use super::site::one_line;
use super::{Address, DownloadError};
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Environment variable with the base address of a server that answers as Kaggle does.
const BASE_VARIABLE: &str = "PIPE_KAGGLE";
const BASE: &str = "https://www.kaggle.com";
/// Where credentials are made.
const TOKENS: &str = "https://www.kaggle.com/settings/api";

/// A data set, in a version or in the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dataset {
    pub owner: String,
    pub name: String,
    pub version: Option<u64>,
}

/// Kaggle's description of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Facts {
    #[serde(default)]
    pub current_version_number: Option<u64>,
    #[serde(default)]
    pub license_name: Option<String>,
}

impl Dataset {
    /// The page for people.
    pub(crate) fn page(&self) -> String {
        format!("{BASE}/datasets/{}/{}", self.owner, self.name)
    }

    /// The whole data set as an archive, in a version or in the current one.
    ///
    /// # Errors
    /// A sentence, if the address in the environment is invalid.
    pub(crate) fn archive(&self, version: Option<u64>) -> Result<Address, String> {
        let version =
            version.map_or(String::new(), |number| format!("?datasetVersionNumber={number}"));
        address(&format!("datasets/download/{}/{}{version}", self.owner, self.name))
    }

    /// Facts about the data set.
    ///
    /// # Errors
    /// As [`Dataset::archive`].
    pub(crate) fn facts(&self) -> Result<Address, String> {
        address(&format!("datasets/view/{}/{}", self.owner, self.name))
    }
}

fn address(path: &str) -> Result<Address, String> {
    let base = variable(BASE_VARIABLE).unwrap_or_else(|| BASE.to_owned());
    Address::parse(&format!("{}/api/v1/{path}", base.trim_end_matches('/')))
        .map_err(|reason| format!("{BASE_VARIABLE} is no usable address: {reason}"))
}

/// Parses the answer about a data set.
pub(super) fn facts(body: &[u8]) -> Result<Facts, String> {
    serde_json::from_slice(body).map_err(|error| format!("the answer can't be read: {error}"))
}

/// The status and the message of an error that comes with the status of a success.
pub(super) fn error_in(body: &[u8]) -> Option<(u16, String)> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let inner = json.get("error").filter(|error| error.is_object()).unwrap_or(&json);
    let code = inner.get("code").and_then(Value::as_u64).filter(|code| (400..600).contains(code));
    let message = message_in(body);
    match (code, message) {
        (Some(code), message) => Some((code as u16, message.unwrap_or_default())),
        (None, Some(message)) if json.get("errorMessage").is_some() => Some((400, message)),
        (None, _) => None,
    }
}

/// The message in the body of an error.
fn message_in(body: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let places = ["/error/message", "/message", "/errorMessage"];
    places.iter().find_map(|place| json.pointer(place)?.as_str()).and_then(one_line)
}

/// The error for a status, with what Kaggle means by it.
pub(super) fn refusal(
    dataset: &Dataset,
    status: u16,
    body: &[u8],
    login: Option<&Login>,
) -> DownloadError {
    let Dataset { owner, name, version } = dataset;
    let said = message_in(body).map_or(String::new(), |text| format!(": \"{text}\""));
    let failed = |reason: &str, help: String| DownloadError::Site {
        status: Some(status),
        message: format!(
            "failed to download `{owner}/{name}` from Kaggle: {reason} (status {status}{said})"
        ),
        help,
    };
    let page = dataset.page();
    let how = format!(
        "make a token on {TOKENS}, and set KAGGLE_API_TOKEN to it or write it to ~/.kaggle/access_token"
    );
    match (status, login) {
        (401, Some(login)) => failed(
            &format!("the credentials in {} aren't valid", login.origin()),
            format!(
                "they may be mistyped or expired (a new legacy key ends the old one), or this machine's clock is wrong; {how}"
            ),
        ),
        (401, None) => failed("a login is needed", how),
        (403, _) if said.contains("accept") || said.contains("rules") => failed(
            "its rules have to be accepted first",
            format!(
                "open {page} in a browser, log in as the owner of the credentials, and accept them; Kaggle may ask for a verified phone number, too"
            ),
        ),
        (403, login) => failed(
            "it is private, doesn't exist, or needs a login: Kaggle doesn't say which",
            match login {
                Some(login) => format!(
                    "open {page} in a browser as the owner of the credentials in {}, which were sent",
                    login.origin()
                ),
                None => format!(
                    "open {page} in a browser to see whether it exists; no credentials were found, so to log in, {how}"
                ),
            },
        ),
        (404 | 410, _) => failed(
            &match version {
                Some(number) => format!("there is no such data set, or no version {number} of it"),
                None => "there is no such data set".to_owned(),
            },
            format!("compare the name with the address of its page: {page}"),
        ),
        (429, _) => failed("too many requests", busy_help(None)),
        (500..=599, _) => failed(
            "the failure is on Kaggle's side",
            "run again later: the download resumes".to_owned(),
        ),
        _ => failed("the request was refused", format!("open {page} in a browser to check it")),
    }
}

/// The remedy after too many requests.
pub(super) fn busy_help(seconds: Option<u64>) -> String {
    match seconds {
        Some(seconds) => format!("run again in {seconds} seconds: the download resumes"),
        None => "run again in a few minutes: the download resumes".to_owned(),
    }
}

/// The credentials, from the places in which Kaggle's own programs look, in their order.
///
/// # Errors
/// A sentence, if a file with credentials can't be used.
pub(super) fn login() -> Result<Option<Login>, String> {
    if let Some(token) = variable("KAGGLE_API_TOKEN") {
        return token_in_variable(&token).map(Some);
    }
    let home = variable("HOME").map(|home| PathBuf::from(home).join(".kaggle"));
    for name in ["access_token", "access_token.txt"] {
        let Some(path) = home.as_ref().map(|home| home.join(name)) else { continue };
        if let Some(token) = content(&path)?.filter(|token| !token.is_empty()) {
            return Login::bearer(&token, path.display().to_string()).map(Some);
        }
    }
    if let (Some(user), Some(key)) = (variable("KAGGLE_USERNAME"), variable("KAGGLE_KEY")) {
        let origin = "KAGGLE_USERNAME and KAGGLE_KEY".to_owned();
        return Login::basic(&user, &key, origin).map(Some);
    }
    let configured = variable("KAGGLE_CONFIG_DIR").map(PathBuf::from);
    let elsewhere = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")))
        .map(|folder| folder.join("kaggle"));
    for folder in [configured, home, elsewhere].into_iter().flatten() {
        if let Some(login) = in_json(&folder.join("kaggle.json"))? {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

/// The variable holds the token itself, or the path of a file with it.
fn token_in_variable(value: &str) -> Result<Login, String> {
    let path = Path::new(value);
    if !path.is_file() {
        return Login::bearer(value.trim(), "KAGGLE_API_TOKEN".to_owned());
    }
    let origin = format!("{} (KAGGLE_API_TOKEN)", path.display());
    match content(path)? {
        Some(token) if !token.is_empty() => Login::bearer(&token, origin),
        _ => Err(format!("{origin} holds no token")),
    }
}

#[derive(Deserialize)]
struct LegacyKey {
    username: String,
    key: String,
}

fn in_json(path: &Path) -> Result<Option<Login>, String> {
    let Some(text) = content(path)? else { return Ok(None) };
    let LegacyKey { username, key } = serde_json::from_str(&text).map_err(|_| {
        format!(
            "{} isn't a key of Kaggle's: expected {{\"username\": …, \"key\": …}}, as downloaded from {TOKENS}",
            path.display()
        )
    })?;
    Login::basic(&username, &key, path.display().to_string()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caavo() -> Dataset {
        Dataset { owner: "salil007".into(), name: "caavo".into(), version: None }
    }

    #[test]
    fn errors_in_successes_are_found() {
        let nested = br#"{"error":{"code":403,"message":"Permission 'datasets.get' was denied"}}"#;
        assert_eq!(error_in(nested), Some((403, "Permission 'datasets.get' was denied".into())));
        assert_eq!(
            error_in(br#"{"code":401,"message":"Unauthorized"}"#),
            Some((401, "Unauthorized".into()))
        );
        assert_eq!(error_in(br#"{"errorMessage":"no"}"#), Some((400, "no".into())));
        for other in
            [&br#"{"currentVersionNumber":3,"files":[]}"#[..], b"PK", b"[]", b"{\"code\":0}"]
        {
            assert_eq!(error_in(other), None);
        }
    }

    #[test]
    fn messages_are_one_line() {
        let body = br#"{"message":"a\u001b[31m\nb"}"#;
        assert_eq!(message_in(body).as_deref(), Some("a[31mb"));
    }

    #[test]
    fn secrets_are_not_in_messages() {
        let login = Login::basic("me", "s3cret", "kaggle.json".into()).unwrap();
        for status in [400, 401, 403, 404, 429, 500] {
            let error = refusal(&caavo(), status, b"{}", Some(&login));
            let text = format!("{error} {error:?} {login:?} {:?}", error.help());
            assert!(!text.contains("s3cret") && !text.contains("bWU6"), "{text}");
        }
    }
}
