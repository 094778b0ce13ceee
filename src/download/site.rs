//! The kinds of server: what a site's answers mean, and whether there are credentials for it.

use super::login::Login;
use super::{DownloadError, kaggle};

/// A kind of server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Site<'a> {
    /// Any server, without a login.
    Plain,
    Kaggle(&'a kaggle::Dataset),
}

impl Site<'_> {
    /// Credentials for the site, if there are any.
    pub(super) fn login(self) -> Result<Option<Login>, DownloadError> {
        match self {
            Site::Plain => Ok(None),
            Site::Kaggle(dataset) => kaggle::login().map_err(|message| DownloadError::Site {
                message,
                help: format!(
                    "correct or remove it: public data sets such as {} need no credentials",
                    dataset.page()
                ),
            }),
        }
    }

    /// The error for a status that isn't a success.
    pub(super) fn refusal(
        self,
        url: &str,
        status: u16,
        body: &[u8],
        login: Option<&Login>,
    ) -> DownloadError {
        match self {
            Site::Plain => DownloadError::of_status(url.to_owned(), status),
            Site::Kaggle(dataset) => kaggle::refusal(dataset, status, body, login),
        }
    }

    /// The status and message of an error that came with the status of a success.
    pub(super) fn error_in(self, body: &[u8]) -> Option<(u16, String)> {
        match self {
            Site::Plain => None,
            Site::Kaggle(_) => kaggle::error_in(body),
        }
    }

    /// Whether its API answers with JSON where it doesn't redirect to a file.
    pub(super) fn has_api(self) -> bool {
        matches!(self, Site::Kaggle(_))
    }
}
