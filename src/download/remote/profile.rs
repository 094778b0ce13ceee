//! The settings of AWS: from the environment, else from its files in the home directory, as the tools
//! of AWS read them.

use crate::download::login::{Login, content, variable};
use crate::download::sigv4::AwsCredentials;
use std::path::PathBuf;

/// The region without any setting.
const REGION: &str = "us-east-1";

/// The settings of a profile.
pub(super) struct Profile {
    pub region: String,
    /// The URL of a server that is compatible with S3.
    pub endpoint: Option<String>,
    /// The key, its secret and the token of temporary credentials, and where they came from.
    key: Option<(String, String, Option<String>, String)>,
}

impl Profile {
    /// The settings of the environment, completed from the files.
    pub(super) fn load() -> Profile {
        let name = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        let config = Section::read("AWS_CONFIG_FILE", "config", &name);
        let credentials = Section::read("AWS_SHARED_CREDENTIALS_FILE", "credentials", &name);
        let from_environment = || {
            let (key, secret) =
                (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
            Some((key, secret, variable("AWS_SESSION_TOKEN"), "$AWS_ACCESS_KEY_ID".to_owned()))
        };
        let from_files = || {
            [&credentials, &config].into_iter().find_map(|section| {
                let (key, secret) =
                    (section.get("aws_access_key_id")?, section.get("aws_secret_access_key")?);
                let origin = format!("the profile `{name}`");
                Some((key, secret, section.get("aws_session_token"), origin))
            })
        };
        Profile {
            region: variable("AWS_REGION")
                .or_else(|| variable("AWS_DEFAULT_REGION"))
                .or_else(|| config.get("region"))
                .unwrap_or_else(|| REGION.to_owned()),
            endpoint: variable("AWS_ENDPOINT_URL_S3")
                .or_else(|| variable("AWS_ENDPOINT_URL"))
                .or_else(|| config.get("endpoint_url")),
            key: from_environment().or_else(from_files),
        }
    }

    /// The credentials, if there are any: a public bucket needs none.
    pub(super) fn login(self) -> Option<Login> {
        let (key, secret, session, origin) = self.key?;
        let credentials = AwsCredentials { key, secret, session, region: self.region };
        Some(Login::aws(credentials, origin))
    }
}

/// The settings of one section of a file.
struct Section(Vec<(String, String)>);

impl Section {
    /// The section of a profile in the file that a variable or the home directory has.
    fn read(variable_name: &str, file: &str, profile: &str) -> Section {
        let path = variable(variable_name)
            .map(PathBuf::from)
            .or_else(|| Some(std::env::home_dir()?.join(".aws").join(file)));
        let text = path.and_then(|path| content(&path).ok().flatten());
        Section::parse(&text.unwrap_or_default(), profile)
    }

    fn parse(text: &str, profile: &str) -> Section {
        let named = format!("profile {profile}");
        let mut is_inside = false;
        let mut settings = Vec::new();
        for line in text.lines() {
            if let Some(name) =
                line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            {
                is_inside = name.trim() == profile || name.trim() == named;
            } else if let Some((key, value)) = line.split_once('=').filter(|_| is_inside)
                // Indented lines belong to a setting of several lines.
                && !line.starts_with(char::is_whitespace)
            {
                settings.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        Section(settings)
    }

    fn get(&self, key: &str) -> Option<String> {
        let found = self.0.iter().find(|(name, value)| name == key && !value.is_empty());
        found.map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_its_own_settings() {
        let text = "[default]\nregion = a\n\n[profile lab]\nregion=b\ns3 =\n  endpoint_url = c\n# region = d\nAWS_Access_Key_Id = k = 1\n[other]\nregion = e";
        let get = |profile: &str, key: &str| Section::parse(text, profile).get(key);
        assert_eq!(get("default", "region").as_deref(), Some("a"));
        assert_eq!(get("lab", "region").as_deref(), Some("b"));
        assert_eq!(get("lab", "endpoint_url"), None);
        assert_eq!(get("lab", "aws_access_key_id").as_deref(), Some("k = 1"));
        assert_eq!(get("none", "region"), None);
        assert_eq!(get("other", "region").as_deref(), Some("e"));
    }
}
