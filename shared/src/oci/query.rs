//! The query of a request's URL.
//!
//! Values are taken as they stand: what the API has parameters for (tags, numbers, media types) is never escaped.

/// A query, without its `?`. Clients may add parameters that mean nothing here, such as containerd's `ns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query<'a>(Option<&'a str>);

impl<'a> Query<'a> {
    /// What stands behind the `?` of a URL, if it has one.
    pub const fn new(text: Option<&'a str>) -> Self {
        Self(text)
    }

    /// The value of the first parameter of this name.
    pub fn get(self, name: &str) -> Option<&'a str> {
        let mut pairs = self.0.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_parameters_by_their_whole_name() {
        let check = |query, name, expect| assert_eq!(Query::new(query).get(name), expect, "{query:?} {name}");
        check(None, "n", None);
        check(Some(""), "n", None);
        check(Some("n"), "n", None);
        check(Some("n="), "n", Some(""));
        check(Some("n=1&n=2"), "n", Some("1"));
        check(Some("ns=a&n=b=c"), "n", Some("b=c"));
        check(Some("notartifactType=a"), "artifactType", None);
    }
}
