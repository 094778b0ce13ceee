//! Questions that are answered by the head of a response or a short body, and what becomes of
//! responses that aren't a success.

use super::login::Login;
use super::request::{Failure, Head, Method, Request, Response, is_temporary, send};
use super::retry::RetryPolicy;
use super::site::Site;
use super::version::Version;
use super::{Address, DownloadError, hub, kaggle};
use crate::events::CancellationToken;
use std::time::Duration;

/// Bytes of an answer about a data set: its list of files may be long.
const ANSWER: usize = 64 << 20;

/// The next step after a response that isn't a success.
pub(super) enum Verdict {
    /// Ask again with credentials.
    LogIn(Login),
    /// Ask again later.
    Retry(Retry),
}

/// A temporary failure.
pub(super) struct Retry {
    pub reason: String,
    /// How long the server asks to wait.
    pub wait: Option<Duration>,
    /// Whether a connection was made.
    pub is_connected: bool,
    /// The error if it isn't tried again.
    pub error: DownloadError,
}

/// The next step after a response with `status` that isn't a success.
///
/// # Errors
/// If asking again is of no use.
pub(super) fn judge(
    site: Site,
    address: &Address,
    status: u16,
    head: &Head,
    body: &[u8],
    login: Option<&Login>,
) -> Result<Verdict, DownloadError> {
    let refusal = || site.refusal(address.as_str(), status, head, body, login);
    if matches!(status, 401 | 403) && site.has_api() {
        if head.is_elsewhere {
            let reason = "the address of the file expired".to_owned();
            let error = refusal();
            return Ok(Verdict::Retry(Retry { reason, wait: None, is_connected: true, error }));
        }
        if login.is_none()
            && let Some(login) = site.login()?
        {
            return Ok(Verdict::LogIn(login));
        }
    }
    if !is_temporary(status) {
        return Err(refusal());
    }
    let reason = format!("the server responded with status {status}");
    let wait = head.retry_after;
    let error = match (status, wait) {
        (429, Some(wait)) => {
            DownloadError::Busy { url: address.as_str().to_owned(), seconds: wait.as_secs() }
        }
        _ if site.has_api() => refusal(),
        _ => {
            DownloadError::Unreachable { url: address.as_str().to_owned(), reason: reason.clone() }
        }
    };
    Ok(Verdict::Retry(Retry { reason, wait, is_connected: true, error }))
}

/// The same for a failure without a response.
pub(super) fn judge_failure(address: &Address, failure: Failure) -> Result<Retry, DownloadError> {
    let url = || address.as_str().to_owned();
    let (reason, is_connected) = match failure {
        Failure::Cancelled => return Err(DownloadError::Cancelled),
        Failure::Permanent(reason) => {
            return Err(DownloadError::Unreachable { url: url(), reason });
        }
        Failure::Temporary(reason) => (reason, true),
        Failure::NoConnection(reason) => (reason, false),
    };
    let error = DownloadError::Unreachable { url: url(), reason: reason.clone() };
    Ok(Retry { reason, wait: None, is_connected, error })
}

/// A response that isn't a success: its status and body.
struct Unsuccessful {
    status: u16,
    body: Vec<u8>,
}

/// Asks until `accept` accepts a response, with the site's first credentials.
fn ask<T>(
    address: &Address,
    site: Site,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
    accept: impl Fn(&Response) -> Result<Result<T, Unsuccessful>, Failure>,
) -> Result<T, DownloadError> {
    request(address, site, &Method::Get, retry, cancel, accept)
}

/// The same with any method.
fn request<T>(
    address: &Address,
    site: Site,
    method: &Method,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
    accept: impl Fn(&Response) -> Result<Result<T, Unsuccessful>, Failure>,
) -> Result<T, DownloadError> {
    let mut login = site.first_login()?;
    let mut failures = 0;
    loop {
        let request = Request { address, from: 0, validator: None, login: login.as_ref() };
        let answered = send(&request, method.clone(), retry, cancel).and_then(|response| {
            let accepted = accept(&response)?;
            Ok((response, accepted))
        });
        let again = match answered {
            Ok((_, Ok(accepted))) => return Ok(accepted),
            Ok((response, Err(Unsuccessful { status, body }))) => {
                match judge(site, address, status, &response.head, &body, login.as_ref())? {
                    Verdict::LogIn(found) => {
                        login = Some(found);
                        continue;
                    }
                    Verdict::Retry(again) => again,
                }
            }
            Err(failure) => judge_failure(address, failure)?,
        };
        failures += 1;
        if failures >= retry.attempts || again.wait.is_some_and(|wait| wait > retry.patience) {
            return Err(again.error);
        }
        retry.pause(failures, again.wait, cancel)?;
    }
}

/// The current version of the file at a URL; none if there is none.
///
/// # Errors
/// If the server is unreachable or refuses.
pub(crate) fn current_version(
    address: &Address,
    site: Site,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Option<Version>, DownloadError> {
    // A GET request of which only the head is read: some servers handle HEAD requests differently
    // or not at all.
    ask(address, site, retry, cancel, |response| {
        Ok(match response.head.status {
            200 if !is_message(site, &response.head) => Ok(Some(response.head.version.clone())),
            404 | 410 if !site.has_api() => Ok(None),
            _ => Err(unsuccessful(site, response, cancel)),
        })
    })
}

/// The content of an object. None if it is longer than `limit` bytes.
///
/// # Errors
/// If the server is unreachable or refuses, or has no such object.
pub(super) fn object(
    address: &Address,
    site: Site,
    limit: u64,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Option<Vec<u8>>, DownloadError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    ask(address, site, retry, cancel, |response| match response.head.status {
        200 => Ok(Ok(response.body(limit, cancel)?)),
        _ => Ok(Err(unsuccessful(site, response, cancel))),
    })
}

/// Sends a request of which the response is only its head: the length that it states.
///
/// # Errors
/// If the server is unreachable or refuses.
pub(super) fn perform(
    address: &Address,
    site: Site,
    method: Method,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Option<u64>, DownloadError> {
    request(address, site, &method, retry, cancel, |response| match response.head.status {
        200..300 => Ok(Ok(response.head.version.length)),
        _ => Ok(Err(unsuccessful(site, response, cancel))),
    })
}

/// Kaggle's description of a data set.
///
/// # Errors
/// If the server is unreachable, refuses, or answers something else.
pub(crate) fn kaggle_facts(
    dataset: &kaggle::Dataset,
    address: &Address,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<kaggle::Facts, DownloadError> {
    let answer = json(Site::Kaggle(dataset), address, retry, cancel)?;
    kaggle::facts(&answer.body)
        .map_err(|reason| DownloadError::Unreachable { url: address.as_str().to_owned(), reason })
}

/// The Hub's description of a repository at a revision.
///
/// # Errors
/// If the server is unreachable, refuses, or answers something else.
pub(crate) fn hub_facts(
    repository: &hub::Repository,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<hub::Facts, DownloadError> {
    let address = repository.facts()?;
    let answer = json(Site::Hub(repository), &address, retry, cancel)?;
    hub::facts(&answer.body, &repository.revision)
        .map_err(|reason| hub::unusable(&address, &reason))
}

/// All files of a repository on the Hub at a revision, sorted by path.
///
/// # Errors
/// If the server is unreachable, refuses, or answers something else.
pub(crate) fn hub_files(
    repository: &hub::Repository,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Vec<hub::File>, DownloadError> {
    let (mut next, mut files) = (Some(repository.files()?), Vec::new());
    while let Some(address) = next {
        let Answer { body, link } = json(Site::Hub(repository), &address, retry, cancel)?;
        let unusable = |reason: String| hub::unusable(&address, &reason);
        hub::add_files(&body, &mut files).map_err(unusable)?;
        next = hub::next_page(&address, link.as_deref()).map_err(unusable)?;
    }
    files.sort();
    Ok(files)
}

/// The answer of an API.
struct Answer {
    body: Vec<u8>,
    link: Option<String>,
}

fn json(
    site: Site,
    address: &Address,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Answer, DownloadError> {
    ask(address, site, retry, cancel, |response| {
        if response.head.status != 200 {
            return Ok(Err(unsuccessful(site, response, cancel)));
        }
        let body = response.body(ANSWER, cancel)?.unwrap_or_default();
        Ok(match site.error_in(&body) {
            Some((status, _)) => Err(Unsuccessful { status, body }),
            None => Ok(Answer { body, link: response.head.link.clone() }),
        })
    })
}

/// Whether a success is a message of the API, where a file is expected.
pub(super) fn is_message(site: Site, head: &Head) -> bool {
    site.sends_messages() && head.is_json && !head.is_elsewhere
}

fn unsuccessful(site: Site, response: &Response, cancel: &CancellationToken) -> Unsuccessful {
    let body = response.explanation(cancel);
    let status = meant_status(site, &response.head, &body);
    Unsuccessful { status, body }
}

/// The status of an error, which may be in the body.
pub(super) fn meant_status(site: Site, head: &Head, body: &[u8]) -> u16 {
    match head.status {
        // A message in place of a file is no success, whatever it says.
        200..300 => site.error_in(body).map_or(400, |(status, _)| status),
        status => status,
    }
}
