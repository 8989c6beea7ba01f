<?php
echo "hello {$_GET['name']} from " . PHP_SAPI . ", a {$_SERVER['REQUEST_METHOD']}";
