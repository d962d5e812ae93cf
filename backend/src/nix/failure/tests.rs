use super::*;
use serde_json::json;
use std::fs;
use tempfile::TempDir;

/// A log with these errors of Nix.
fn errors(said: &[&str]) -> Said {
    let mut all = Said::default();
    for text in said {
        all.hear(&format!("@nix {}", json!({ "action": "msg", "level": 0, "msg": text })));
    }
    all
}

fn blames(verdict: &Verdict) -> Vec<Blame> {
    match verdict {
        Verdict::Lasting(faults) => faults.iter().map(|fault| fault.blame).collect(),
        other => panic!("{other:?}"),
    }
}

/// A derivation that may use the network, and one that may not.
fn derivations() -> (TempDir, String, String) {
    let dir = TempDir::new().expect("a directory");
    let write = |name: &str, hash: &str| {
        let path = dir.path().join(name);
        let method = if hash.is_empty() { "" } else { "sha256" };
        let text = format!(r#"Derive([("out","/nix/store/nothing-{name}","{method}","{hash}")],[]"#);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (fixed, plain) = (write("fixed.drv", "00ff"), write("plain.drv", ""));
    (dir, fixed, plain)
}

#[test]
fn every_message_in_the_table_is_recognised() {
    for (words, expect) in MEANINGS {
        assert_eq!(meaning(&format!("error: x {words} y")), Some(expect), "{words}");
    }
    assert_eq!(meaning("error: something new"), None);
}

#[test]
fn a_builder_that_may_use_the_network_may_succeed_later() {
    let (_dir, fixed, plain) = derivations();
    type Says = fn(&str) -> String;
    let old: Says = |drv| format!("error: builder for '{drv}' failed with exit code 1");
    let new: Says =
        |drv| format!("error: Cannot build '{drv}'.\n       Reason: builder failed with exit code 1.");
    for (failed, dependent) in [
        (old, "error: 1 dependencies of derivation '/nix/store/z.drv' failed to build"),
        (new, "error: Cannot build '/nix/store/z.drv'.\n       Reason: 1 dependency failed."),
    ] {
        // Through a daemon and without one; alone, and beside one that failed for good.
        for status in [1, 100] {
            let judged = |said: &[&str]| errors(said).judge(status);
            assert_eq!(judged(&[&failed(&fixed), dependent]), Verdict::Passing(Obstacle::Network));
            assert_eq!(judged(&[&failed(&plain), &failed(&fixed)]), Verdict::Passing(Obstacle::Network));
            assert_eq!(blames(&judged(&[&failed(&plain), dependent])), [Blame::Builder]);
        }
        // If the derivation cannot be read, the exit code decides.
        let gone = failed("/nix/store/gone.drv");
        assert_eq!(errors(&[&gone]).judge(1), Verdict::Unknown);
        assert_eq!(blames(&errors(&[&gone]).judge(100)), [Blame::Builder]);
    }
}

#[test]
fn a_signal_from_outside_is_not_a_builders_fault() {
    let (_dir, _, plain) = derivations();
    let judged = |signal: &str| {
        errors(&[&format!("error: builder for '{plain}' failed due to signal {signal}")]).judge(100)
    };
    assert_eq!(judged("9 (Killed)"), Verdict::Passing(Obstacle::Ended));
    assert_eq!(judged("15 (Terminated)"), Verdict::Passing(Obstacle::Ended));
    assert_eq!(blames(&judged("11 (Segmentation fault)")), [Blame::Builder]);
}

#[test]
fn time_runs_out_for_a_builder_or_for_a_download() {
    let (_dir, fixed, plain) = derivations();
    for text in [
        "error: building of '/nix/store/x.drv!out' from .drv file timed out after 2 seconds",
        "error: timed out after 2 seconds of silence",
    ] {
        let judged = |drv: &str| {
            let mut said = Said::default();
            let start =
                json!({ "action": "start", "id": 1, "level": 3, "type": 105, "fields": [drv, "", 1, 1] });
            said.hear(&format!("@nix {start}"));
            said.hear(r#"@nix {"action":"stop","id":1}"#);
            said.hear(&format!("@nix {}", json!({ "action": "msg", "level": 0, "msg": text })));
            said.judge(101)
        };
        assert_eq!(blames(&judged(&plain)), [Blame::Time]);
        assert_eq!(judged(&fixed), Verdict::Passing(Obstacle::Network));
    }
}

#[test]
fn what_is_under_way_when_time_runs_out_tells_why() {
    let mut said = Said::default();
    assert_eq!(said.obstacle_when_time_ran_out(), None);
    said.hear(r#"@nix {"action":"start","id":1,"level":4,"type":101,"fields":["https://example.org"]}"#);
    assert_eq!(said.obstacle_when_time_ran_out(), Some(Obstacle::Network));
    said.hear(r#"@nix {"action":"stop","id":1}"#);
    assert_eq!(said.obstacle_when_time_ran_out(), None);
    said.hear(r#"@nix {"action":"result","id":2,"type":101,"fields":["tar: No space left on device"]}"#);
    assert_eq!(said.obstacle_when_time_ran_out(), Some(Obstacle::Space));
}

#[test]
fn an_unreachable_binary_cache_makes_any_failure_passing() {
    let mut said =
        errors(&["error: a 'sparc-linux' with features {} is required to build '/nix/store/x.drv', but"]);
    assert_eq!(blames(&said.judge(1)), [Blame::Machine]);
    let warning = |text: &str| format!("@nix {}", json!({ "action": "msg", "level": 1, "msg": text }));
    said.hear(&warning("warning: unable to download 'https://x/y': HTTP error 404"));
    assert_eq!(blames(&said.judge(1)), [Blame::Machine], "a server that answers works");
    said.hear(&warning(
        "warning: unable to download 'https://x/nix-cache-info': Couldn't connect to server (7)",
    ));
    assert_eq!(said.judge(1), Verdict::Passing(Obstacle::Network));
}

#[test]
fn what_is_not_understood_counts_by_its_exit_code() {
    assert_eq!(blames(&errors(&["error: something new"]).judge(100)), [Blame::Derivation]);
    assert_eq!(errors(&["error: something new"]).judge(1), Verdict::Unknown);
    assert_eq!(errors(&[]).judge(1), Verdict::Unknown);
    assert_eq!(errors(&[]).judge(100), Verdict::Unknown);
}

#[test]
fn a_fault_knows_its_derivation() {
    let said = errors(&[
        "error: cycle detected in build of '/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-a.drv' in the references",
    ]);
    let Verdict::Lasting(faults) = said.judge(1) else { panic!("lasting") };
    let path = |text: &str| text.parse::<StorePath>().expect("a path");
    assert!(faults[0].is_about(&path("/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-a.drv")));
    assert!(!faults[0].is_about(&path("/nix/store/qnikzm2hw7glz47yfby8byy4p2hvnckn-a")));
}
