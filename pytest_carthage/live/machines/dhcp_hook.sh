#!/bin/sh
# What dhclient(8) runs when something has happened to a lease; see dhclient-script(8). It acts in
# the network of the machine, and tells whoever has the other end of its standard output.

tell() {
    # a closed pipe is no error: the address lives on when nobody listens any more
    printf 'lease\t%s\t%s\t%s\t%s\t%s\n' "$reason" "$1" "$2" "$3" "$4" 2>&-
}
trap '' PIPE

metric=${carthage_metric:+metric $carthage_metric}

case $reason in
PREINIT | PREINIT6)
    ip link set dev "$interface" up
    ;;
BOUND | RENEW | REBIND | REBOOT)
    if [ -n "$old_ip_address" ] && [ "$old_ip_address" != "$new_ip_address" ]; then
        ip -4 address delete "$old_ip_address/$old_subnet_mask" dev "$interface" 2>&-
    fi
    if [ -n "$new_interface_mtu" ]; then
        ip link set dev "$interface" mtu "$new_interface_mtu"
    fi
    lasting=$new_dhcp_lease_time
    ip -4 address replace "$new_ip_address/${new_subnet_mask:-255.255.255.255}" \
        ${new_broadcast_address:+broadcast $new_broadcast_address} dev "$interface" \
        ${lasting:+valid_lft $lasting preferred_lft $lasting}
    for router in $new_routers; do
        # shellcheck disable=SC2086 # two words
        ip -4 route replace default via "$router" dev "$interface" proto dhcp $metric
        break
    done
    tell "$new_ip_address/$new_subnet_mask" "${new_routers%% *}" "$new_domain_name_servers" \
        "${new_domain_search:-$new_domain_name}"
    ;;
EXPIRE | FAIL | RELEASE | STOP)
    if [ -n "$old_ip_address" ]; then
        ip -4 address delete "$old_ip_address/$old_subnet_mask" dev "$interface" 2>&-
    fi
    tell
    ;;
BOUND6 | RENEW6 | REBIND6)
    if [ -n "$old_ip6_address" ] && [ "$old_ip6_address" != "$new_ip6_address" ]; then
        ip -6 address delete "$old_ip6_address/$carthage_prefixlen" dev "$interface" 2>&-
    fi
    # the prefix length is the network's: DHCPv6 gives single addresses. nodad: the server knows
    ip -6 address replace "$new_ip6_address/$carthage_prefixlen" dev "$interface" nodad \
        ${new_max_life:+valid_lft $new_max_life preferred_lft $new_preferred_life}
    if [ -n "$carthage_gateway" ]; then
        # shellcheck disable=SC2086
        ip -6 route replace default via "$carthage_gateway" dev "$interface" proto dhcp $metric
    fi
    tell "$new_ip6_address/$carthage_prefixlen" "$carthage_gateway" "$new_dhcp6_name_servers" \
        "$new_dhcp6_domain_search"
    ;;
EXPIRE6 | RELEASE6 | STOP6)
    if [ -n "$old_ip6_address" ]; then
        ip -6 address delete "$old_ip6_address/$carthage_prefixlen" dev "$interface" 2>&-
    fi
    tell
    ;;
TIMEOUT)
    exit 1 # an old lease that nobody confirms is none
    ;;
esac
exit 0
