//! The passwords of private binary caches, from a file in the format of `.netrc`, as in Nix's `netrc-file`.

use std::fmt;
use std::str::FromStr;

/// Users and passwords by host.
#[derive(Default)]
pub struct Netrc(netrc::Netrc);

/// The text is not in the format of `.netrc`. What is wrong with it is not said, because that may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not in the format of .netrc: machine HOST login USER password PASSWORD")]
pub struct ParseNetrcError;

impl Netrc {
    /// The user and password for a host.
    pub(super) fn of_host(&self, host: &str) -> Option<(&str, &str)> {
        let found = self.0.hosts.get(host).or_else(|| self.0.hosts.get("default"))?;
        Some((&found.login, &found.password))
    }
}

impl FromStr for Netrc {
    type Err = ParseNetrcError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseNetrcError)
    }
}

impl fmt::Debug for Netrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.hosts.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_hosts_and_hides_passwords() {
        let netrc: Netrc = "machine a.example login me password secret\n\
            machine b.example\n  password secret-token\ndefault login anyone password secret"
            .parse()
            .expect("a netrc");
        assert_eq!(netrc.of_host("a.example"), Some(("me", "secret")));
        assert_eq!(netrc.of_host("b.example"), Some(("", "secret-token")));
        assert_eq!(netrc.of_host("c.example"), Some(("anyone", "secret")));
        assert_eq!(Netrc::default().of_host("a.example"), None);
        assert!(!format!("{netrc:?}").contains("secret"));
    }

    #[test]
    fn tells_nothing_of_what_it_cannot_read() {
        let error = "machine a.example login me secret".parse::<Netrc>().expect_err("refused");
        assert!(!error.to_string().contains("secret"));
    }
}
