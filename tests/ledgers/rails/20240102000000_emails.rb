class Emails < ActiveRecord::Migration[6.1]
  def up
    execute File.read(__FILE__.sub(/\.rb\z/, ".sql"))
  end
end
