# What `rails db:migrate` does, without a Rails application around it. Arguments: the database's URL, the folder of the migrations.
require "active_record"

url, folder = ARGV
ActiveRecord::Base.establish_connection(url)
ActiveRecord::MigrationContext.new(folder, ActiveRecord::SchemaMigration).migrate
