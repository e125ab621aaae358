//! Who can reach the admin interface.

use super::report::{Area, Finding};
use crate::{
    admin::{self, Token, TokenError},
    config,
};

const AREA: Area = Area::Admin;

/// Examines where the admin interface is to listen, and who can read its token.
pub(super) fn examine(admin: &admin::Config) -> Vec<Finding> {
    let Some(listen) = admin.listen else {
        return vec![Finding::ok(AREA, "exposure", "switched off (admin.listen)")];
    };
    let mut findings = vec![if listen.ip().to_canonical().is_loopback() {
        Finding::ok(AREA, "exposure", format!("{listen} is reached from this machine only"))
    } else {
        let cause = format!(
            "{listen} can be reached from other machines; whoever has the token, or hears it on the way, commands the proxy"
        );
        let mend = "set admin.listen to 127.0.0.1 and come through SSH or a TLS proxy, or let a firewall pass only your own address";
        Finding::warning(AREA, "exposure", cause, mend)
    }];
    if config::open_to_others(&admin.token_file) {
        let shown = admin.token_file.display();
        let cause = format!("{shown} can be read by other users of this machine");
        findings.push(Finding::error(AREA, "token", cause, format!("chmod 600 {shown}")));
    }
    match Token::read(&admin.token_file) {
        // The next start writes it; beyond loopback the configuration was refused for it.
        Ok(_) | Err(TokenError::Missing { .. }) => {}
        Err(error) => findings.push(of_unusable(&error, admin.listen_is_chosen)),
    }
    findings
}

fn of_unusable(error: &TokenError, listen_is_chosen: bool) -> Finding {
    let mend =
        "give the file to the user that Postern runs as, or delete it: the next start writes a new one";
    if listen_is_chosen {
        Finding::error(AREA, "token", format!("{error}. The proxy does not start with it"), mend)
    } else {
        let cause = format!("{error}. The proxy runs without its admin interface");
        Finding::warning(AREA, "token", cause, mend)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::doctor::report::Verdict;

    #[test]
    fn exposure() {
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join("admin.token");
        let examined = |listen: Option<&str>, listen_is_chosen| -> Vec<_> {
            let listen = listen.map(|listen| listen.parse().unwrap());
            let token_file = token_file.clone();
            let config = admin::Config { listen, listen_is_chosen, token_file, allowed_hosts: Vec::new() };
            let found = examine(&config);
            found.iter().map(|finding| (finding.check, finding.verdict)).collect()
        };
        let told = |listen| examined(listen, true);
        assert_eq!(told(None), [("exposure", Verdict::Ok)]);
        assert_eq!(told(Some("127.0.0.1:9464")), [("exposure", Verdict::Ok)]);
        assert_eq!(told(Some("[::1]:9464")), [("exposure", Verdict::Ok)]);
        assert_eq!(told(Some("0.0.0.0:9464")), [("exposure", Verdict::Warning)]);
        std::fs::write(&token_file, "token").unwrap();
        std::fs::set_permissions(&token_file, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(told(Some("127.0.0.1:9464")), [("exposure", Verdict::Ok), ("token", Verdict::Error)]);
        std::fs::set_permissions(&token_file, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(told(Some("127.0.0.1:9464")), [("exposure", Verdict::Ok)]);
        std::fs::write(&token_file, "\n").unwrap();
        assert_eq!(told(Some("127.0.0.1:9464")), [("exposure", Verdict::Ok), ("token", Verdict::Error)]);
        let by_default = examined(Some("127.0.0.1:9464"), false);
        assert_eq!(by_default, [("exposure", Verdict::Ok), ("token", Verdict::Warning)]);
        assert_eq!(told(None), [("exposure", Verdict::Ok)], "nobody needs it");
    }
}
