//! What programs in a workspace make of names before they ask for them.

use network::{HostAccess, Resolver};

use crate::WorkspaceSpec;

impl WorkspaceSpec {
    /// What is asked for.
    pub fn asked_resolver(&self) -> Resolver {
        Resolver { search: self.dns_search.clone(), options: self.dns_option.clone() }
    }

    /// What the guest is told when it starts now.
    pub fn resolver(&self) -> Resolver {
        self.asked_resolver().or_hosts(&self.network_settings().policy, self.fewest_dots())
    }

    /// The fewest dots in a name that is asked for in the workspace alone.
    fn fewest_dots(&self) -> Option<usize> {
        // Those of members are one label each.
        let members = self.networks.first().map(|_| 0);
        let host = (self.host_access == HostAccess::Allowed).then_some(network::HOST_NAME);
        let own = self.add_host.iter().map(|entry| entry.name.as_str()).chain(host);
        own.map(|name| name.matches('.').count()).chain(members).min()
    }
}

/// The same as the guest is told it.
pub(crate) fn in_guest(resolver: &Resolver) -> proto::Resolver {
    proto::Resolver {
        search: resolver.search.iter().map(ToString::to_string).collect(),
        options: resolver.options.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_s_own_names_have_so_many_dots() {
        let dots = |spec: WorkspaceSpec| spec.fewest_dots();
        assert_eq!(dots(WorkspaceSpec::default()), None);
        let allowed = WorkspaceSpec { host_access: HostAccess::Allowed, ..WorkspaceSpec::default() };
        assert_eq!(dots(allowed.clone()), Some(2));
        let named = WorkspaceSpec { add_host: vec!["db.example:192.0.2.7".parse().unwrap()], ..allowed };
        assert_eq!(dots(named.clone()), Some(1));
        assert_eq!(dots(WorkspaceSpec { networks: vec!["backend".parse().unwrap()], ..named }), Some(0));
    }
}
