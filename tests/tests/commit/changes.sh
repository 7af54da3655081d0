# What users do to a distribution: packages, deletions, renames, replacements.
dpkg -i /root/local.deb >/dev/null
rm /root/local.deb
dpkg --purge iputils-ping >/dev/null
rm -rf /usr/share/doc
mv /etc/debian_version /etc/renamed
mv /etc/cron.daily /etc/was-daily
rm -rf /etc/apt
mkdir /etc/apt
echo new >/etc/apt/sources.list
rm -rf /var/mail
echo file >/var/mail
rm /etc/issue
mkdir /etc/issue
echo in >/etc/issue/in
rm /etc/os-release
ln -s /usr/lib/os-release /etc/os-release
rm -rf /srv
chmod 1750 /media
chown 12:34 /mnt
echo more >>/etc/passwd
